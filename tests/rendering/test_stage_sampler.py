"""One stage: chunks change nothing, one compilation, every input has its effect."""

import threading
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svp_jax.diffusion import Schedule, TemporalWeights
from svp_jax.rendering.stage_sampler import Frames, Shortcuts, StageSampler, start_noise
from svp_jax.rendering.steering import Steering, window
from svp_jax.weights.avatar import load_avatar
from svp_jax.weights.base import encode_prompts

# Users of the command line would see it.
pytestmark = pytest.mark.filterwarnings("error:Some donated buffers were not usable")

FRAMES, STEPS = 5, 4
TEMPORAL = TemporalWeights(0.6, 0.5, 0.9, 0.5)
CONDITION = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 9), np.uint8)


@pytest.fixture(scope="module")
def avatar(avatar_folder):
    return load_avatar(avatar_folder)


@pytest.fixture(scope="module")
def sample(avatar):
    """(chunk length, starts, settings of the sampler) -> latents, pictures of the five frames."""

    def run(
        length=FRAMES,
        starts=(0,),
        condition=CONDITION,
        prompts=("a person",),
        eta=0.0,
        unet=None,
        temporal=TEMPORAL,
        strength=1.0,
        control=(0, 1),
        guidance=1.0,
        guided=(0, 1),
        **settings,
    ):
        stage = avatar.stages["details"]
        *negative, text = encode_prompts(avatar.base, prompts)
        schedule = Schedule.from_config(avatar.base.scheduler_config, STEPS, eta)
        sampler = StageSampler(
            (stage.controlnet, unet or stage.unet, avatar.vae),
            schedule,
            temporal,
            Steering(
                np.full(1, strength, np.float32),
                window(schedule, *control),
                np.float32(guidance),
                window(schedule, *guided),
            ),
            length=length,
            negative=negative[0] if negative else None,
            **settings,
        )
        flags = np.isin(np.arange(FRAMES), starts)
        results = []
        for first in range(0, FRAMES, length):
            part = slice(first, first + length)
            numbers = np.arange(FRAMES)[part]
            texts = np.broadcast_to(text, (len(numbers), *text.shape))
            results += sampler([Frames(condition[part], 100 + numbers, flags[part], texts)])
        return tuple(np.concatenate(arrays) for arrays in zip(*results, strict=True))

    return run


@pytest.fixture(scope="module")
def usual(sample):
    return sample()


def difference(a, b):
    """Largest difference of each frame's latent."""
    return np.abs(a - b).max(axis=(1, 2, 3))


def test_shapes_and_pictures(usual, avatar):
    latents, pictures = usual
    assert latents.shape == (FRAMES, 8, 8, 4) and latents.dtype == np.float32
    assert pictures.shape == (FRAMES, 64, 64, 3) and pictures.dtype == np.uint8
    decoded = np.asarray(avatar.vae.decode(jnp.asarray(latents[3:4]) / avatar.vae.config.scaling_factor))[0]
    expected = np.clip((decoded + 1) * 127.5, 0, 255)
    # Half a level of rounding.
    np.testing.assert_allclose(pictures[3], expected, atol=0.51)
    assert pictures.std() > 5, "a blank picture would pass any comparison"


@pytest.mark.parametrize(("eta", "lengths"), [(0.0, (1, 3)), (1.0, (3,))])
def test_chunks_change_nothing(sample, eta, lengths):
    whole, _ = sample(FRAMES, starts=(0, 3), eta=eta)
    for length in lengths:
        # The programs differ in the length of a loop only; rounding is all that may differ.
        parts = sample(length, starts=(0, 3), eta=eta)[0]
        np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5 * whole.std())


def test_the_previous_frame_has_an_effect_within_a_shot_only(sample, usual):
    changed = CONDITION.copy()
    changed[0] = 255 - changed[0]
    through = difference(sample(condition=changed)[0], usual[0])
    assert (through[:3] > 1e-4).all(), through
    cut = difference(sample(condition=changed, starts=(0, 2))[0], sample(starts=(0, 2))[0])
    assert (cut[:2] > 1e-4).all() and (cut[2:] == 0).all(), cut


def test_plain_weights_leave_frames_independent(sample):
    changed = CONDITION.copy()
    changed[0] = 255 - changed[0]
    plain = TemporalWeights(1, 0, 1, 0.5)
    moved = difference(sample(temporal=plain)[0], sample(temporal=plain, condition=changed)[0])
    assert moved[0] > 1e-4 and (moved[1:] == 0).all(), moved


def test_one_compilation(sample, avatar, traces):
    # No other test has chunks of two, so nothing is compiled yet.
    results = [sample(2)]
    results.append(sample(2, temporal=TemporalWeights(1, 0, 1, 0)))
    results.append(sample(2, temporal=TemporalWeights(0.2, 0.8, 1, 0.1, 0.9)))
    results.append(sample(2, strength=0.3))
    results.append(sample(2, prompts=("somebody else",)))
    results.append(sample(2, seed=7))
    results.append(sample(2, noise_per_frame=True))
    results.append(sample(2, unet=avatar.base.unet))
    results.append(sample(2, starts=(0, 3)))
    assert len(traces) == 1
    for number, result in enumerate(results):
        for other in results[:number]:
            assert difference(result[0], other[0]).max() > 1e-4
    # Guidance doubles the batch: one more program, whatever its scale and the texts.
    strong = sample(2, prompts=("", "a person"), guidance=7.5)
    sample(2, prompts=("blurred", "somebody else"), guidance=3.0)
    assert len(traces) == 2
    assert difference(strong[0], results[0][0]).max() > 1e-4


def test_guidance_of_one_is_the_conditional_half(sample, usual):
    guided = sample(prompts=("blurred", "a person"), guidance=1.0)
    np.testing.assert_allclose(guided[0], usual[0], rtol=0, atol=2e-5)


def test_strength_zero_switches_the_control_off(sample):
    other = np.random.default_rng(1).integers(0, 256, CONDITION.shape, np.uint8)
    off = difference(sample(strength=0.0)[0], sample(strength=0.0, condition=other)[0])
    on = difference(sample()[0], sample(condition=other)[0])
    assert (off == 0).all() and (on > 1e-4).all()


def test_noise_is_shared_or_by_frame():
    key = jax.random.key(3)
    shared = start_noise(key, np.zeros(3, int), (1, 8, 8, 4))
    assert (shared[0] == shared[2]).all()
    own = start_noise(key, np.array([4, 5, 9]), (1, 8, 8, 4))
    assert abs(np.corrcoef(np.ravel(own[0]), np.ravel(own[1]))[0, 1]) < 0.3
    # A frame's noise depends on its number, not on its place in the chunk.
    assert (start_noise(key, np.array([9, 9, 9]), (1, 8, 8, 4))[0] == own[2]).all()
    assert abs(float(own.mean())) < 0.15 and abs(float(own.std()) - 1) < 0.1


def test_chunks_that_do_not_fit(avatar):
    stage = avatar.stages["details"]
    schedule = Schedule.from_config(avatar.base.scheduler_config, STEPS)
    always = window(schedule, 0, 1)
    steering = Steering(np.ones(2, np.float32), always, np.float32(1), always)
    sampler = StageSampler((stage.controlnet, stage.unet, avatar.vae), schedule, TEMPORAL, steering, length=3)
    (text,) = encode_prompts(avatar.base, ["a person"])

    def part(count):
        texts = np.broadcast_to(text, (count, *text.shape))
        return Frames(CONDITION[:count], np.arange(count), np.zeros(count, bool), texts)

    for counts in ([5, 1], [1], [1, 1, 1]):
        with pytest.raises(ValueError, match="allowed are 2 of up to 3"):
            sampler([part(count) for count in counts])


@pytest.mark.parametrize("prompts", [("a person",), ("", "a person")])
def test_frames_computed_together_change_nothing(sample, prompts):
    """Four of five frames, then one."""
    alone, _ = sample(prompts=prompts, guidance=3.0)
    together, _ = sample(prompts=prompts, guidance=3.0, batch=4)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * alone.std())


def test_shortcuts_that_leave_nothing_out_change_nothing(sample, usual, traces):

    def shortened(begin, every):
        return sample(shortcuts=Shortcuts(np.int32(begin), np.arange(STEPS) % every == 0))[0]

    # Rounding: another program.
    np.testing.assert_allclose(shortened(0, 1), usual[0], rtol=0, atol=1e-5 * usual[0].std())
    # The first frame has none before it to begin from.
    assert (difference(shortened(2, 1), usual[0]) > 1e-3).tolist() == [False, True, True, True, True]
    assert (difference(shortened(0, 2), usual[0]) > 1e-3).all()
    assert len(traces) == 1


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_two_samplers_never_compute_at_once_on_cpus(monkeypatch, platform):
    """Where they did, XLA gave wrong pictures there."""
    running, most = [], []

    def slow(self, parts):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return []

    monkeypatch.setattr(StageSampler, "_computed", slow)
    samplers = [object.__new__(StageSampler) for _ in range(3)]
    for sampler in samplers:
        sampler.mesh = SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)]))
    threads = [threading.Thread(target=sampler, args=([],)) for sampler in samplers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 3
    assert (max(most) == 1) == (platform == "cpu")
