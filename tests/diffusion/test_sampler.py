"""The sampler against diffusers, plain DDIM bit for bit, and NumPy written from the formula."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_sampling import SD, SHAPE, inputs, network, sample

from svp_jax.diffusion import (
    Carry,
    Schedule,
    TemporalWeights,
    alphas_cumprod,
    ddim_step,
    guide,
    sample_sequence,
)

V = {**SD, "prediction_type": "v_prediction"}
PLAIN = TemporalWeights.plain()
MIXED = TemporalWeights(0.7, 0.4, 0.9, 0.6)


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("alpha_to_one", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("spacing", "num_steps"),
    [("leading", 20), ("leading", 30), ("trailing", 7), ("trailing", 30), ("linspace", 12)],
)
def test_each_step_equals_diffusers(spacing, num_steps, prediction, alpha_to_one, eta):
    diffusers = pytest.importorskip("diffusers")
    fields = {
        **SD,
        "prediction_type": prediction,
        "timestep_spacing": spacing,
        "set_alpha_to_one": alpha_to_one,
    }
    check_against_diffusers(diffusers, fields, num_steps, eta)


@pytest.mark.parametrize("eta", [0.0, 0.9])
def test_each_step_equals_diffusers_at_zero_terminal_snr(eta):
    diffusers = pytest.importorskip("diffusers")
    check_against_diffusers(diffusers, {**V, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}, 30, eta)


def test_full_noise_at_zero_terminal_snr_is_finite():
    """With eta = 1 the root of 1 - alpha_prev - sigma^2 is that of 0; diffusers' rounding makes it NaN."""
    config = {**V, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    schedule = Schedule.from_config(config, 30, eta=1.0)
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(schedule))
    assert schedule.direction[0] < 1e-6 and schedule.sigma[0] > 0.99


def check_against_diffusers(diffusers, fields, num_steps, eta):
    import torch

    reference = diffusers.DDIMScheduler(**fields)
    reference.set_timesteps(num_steps)
    schedule = Schedule.from_config(fields, num_steps, eta)
    assert schedule.timesteps.tolist() == reference.timesteps.tolist()
    rng = np.random.default_rng(1)
    ours = theirs = rng.normal(size=SHAPE).astype("f")
    differences = []
    for i, t in enumerate(reference.timesteps):
        output, fresh = rng.normal(size=(2, *SHAPE)).astype("f")
        theirs = reference.step(
            torch.tensor(output), t, torch.tensor(theirs), eta=eta, variance_noise=torch.tensor(fresh)
        ).prev_sample.numpy()
        step = jax.tree.map(lambda column, i=i: column[i], schedule)
        ours = ddim_step(step, ours, output, fresh if eta else None)
        differences.append(np.abs(np.asarray(ours) - theirs).max() / theirs.std())
    # What is left is diffusers' float32 table; a wrong coefficient gives 1e-3 and more.
    np.testing.assert_array_less(differences, 1e-5)


def convolutions(latent, timestep, condition):
    """Ends in a convolution as a UNet does. A network of elementwise operations alone would be fused with the
    step and rounded by the whims of that fusion, so that not even two plain loops agree."""
    rng = np.random.default_rng(9)
    first, last = (rng.normal(size=size).astype("f") * 0.2 for size in ((3, 3, 4, 16), (3, 3, 16, 4)))
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return convolve(jax.nn.silu(convolve(latent + condition, first) + timestep * 1e-3), last) + 0.1


@partial(jax.jit, static_argnames=("guided", "v"))
def plain_ddim(guided, scale, columns, noise, conditions, fresh, v):
    """DDIM written without the sampler: each frame by itself, a Python loop over steps."""
    timesteps, signal, level, signal_prev, direction, sigma = columns
    predict = guide(doubled(convolutions), scale) if guided else convolutions
    frames = []
    for f in range(noise.shape[0]):
        x = noise[f]
        for i in range(timesteps.shape[0]):
            out = predict(x, timesteps[i], conditions[f])
            x0 = signal[i] * x - level[i] * out if v else (x - level[i] * out) / signal[i]
            eps = signal[i] * out + level[i] * x if v else out
            x = signal_prev[i] * x0 + direction[i] * eps
            if fresh is not None:
                x = x + sigma[i] * fresh[f, i]
        frames.append(x)
    return jnp.stack(frames)


@pytest.mark.parametrize("eta", [0.0, 0.8])
@pytest.mark.parametrize("config", [SD, V], ids=["epsilon", "v"])
@pytest.mark.parametrize(("shape", "guided"), [((2, 4, 4, 4), True), ((1, 32, 32, 4), False), ((3, 5, 7, 4), False)])
def test_weights_1_0_1_are_plain_ddim_bit_for_bit(config, eta, shape, guided):
    schedule = Schedule.from_config(config, 7, eta)
    noise, conditions = inputs(3, shape=shape)
    key, fresh = None, None
    if eta:
        key = jax.random.key(5)
        keys = [[jax.random.fold_in(jax.random.fold_in(key, f), i) for i in range(7)] for f in range(3)]
        # The same for all sequences: each could be rendered by itself.
        fresh = jnp.stack([jnp.stack([jax.random.normal(k, shape[1:])[None] for k in row]) for row in keys])
    columns = (schedule.timesteps, schedule.signal, schedule.noise, schedule.signal_prev)
    columns += (schedule.direction, schedule.sigma)
    expected = plain_ddim(guided, 3.0, columns, noise, conditions, fresh, v=config is V)

    @jax.jit
    def compiled(scale, temporal):
        predict = guide(doubled(convolutions), scale) if guided else convolutions
        return sample_sequence(predict, schedule, noise, conditions, temporal, key=key)

    for temporal in (PLAIN, TemporalWeights(1, 0, 1, 0.3, 0.9)):
        latents, _ = compiled(3.0, temporal)
        np.testing.assert_array_equal(latents, expected)
    mixed, _ = compiled(3.0, MIXED)
    assert not np.array_equal(mixed, expected)


def numpy_sequence(config, num_steps, noise, conditions, weights, steps_mixed, previous=None, starts=()):
    """x_prev = sqrt(a_prev) (w_c x0 + w_p p) + w_n sqrt(1 - a_prev) eps at the mixed steps, in float64."""
    w_c, w_p, w_n = weights
    alphas = alphas_cumprod(config)
    schedule = Schedule.from_config(config, num_steps)
    result = []
    for f in range(len(noise)):
        x = noise[f].astype(np.float64)
        if f in starts:
            previous = None
        for i, t in enumerate(schedule.timesteps):
            a = alphas[t]
            t_prev = t - 1000 // num_steps
            a_prev = alphas[t_prev] if t_prev >= 0 else alphas[0]
            out = network(x, t, conditions[f], np)
            if schedule.prediction_type == "epsilon":
                x0, eps = (x - np.sqrt(1 - a) * out) / np.sqrt(a), out
            else:
                x0 = np.sqrt(a) * x - np.sqrt(1 - a) * out
                eps = np.sqrt(a) * out + np.sqrt(1 - a) * x
            if previous is not None and i in steps_mixed:
                x = np.sqrt(a_prev) * (w_c * x0 + w_p * previous) + w_n * np.sqrt(1 - a_prev) * eps
            else:
                x = np.sqrt(a_prev) * x0 + np.sqrt(1 - a_prev) * eps
        result.append(x)
        previous = x
    return np.stack(result)


@pytest.mark.parametrize("config", [SD, V], ids=["epsilon", "v"])
@pytest.mark.parametrize(
    ("tau", "tau_end", "steps_mixed"),
    [(0.0, None, [0]), (1.0, None, [7]), (0.6, None, [4]), (0.2, 0.7, [1, 2, 3, 4, 5]), (0.0, 1.0, range(8))],
)
def test_sequence_equals_numpy_from_the_formula(config, tau, tau_end, steps_mixed):
    noise, conditions = inputs(4)
    expected = numpy_sequence(config, 8, noise, conditions, (0.7, 0.4, 0.9), steps_mixed)
    temporal = TemporalWeights(0.7, 0.4, 0.9, tau, tau_end)
    latents, _ = sample(Schedule.from_config(config, 8), noise, conditions, temporal)
    np.testing.assert_allclose(latents, expected, rtol=0, atol=2e-5 * expected.std())
    plain = numpy_sequence(config, 8, noise, conditions, (0.7, 0.4, 0.9), [])
    assert np.abs(expected[1:] - plain[1:]).max() > 0.05  # so the comparison above can tell mixing from none


def test_stochastic_temporal_step_weighs_the_fresh_noise_too():
    config, num_steps, eta = V, 5, 0.7
    schedule = Schedule.from_config(config, num_steps, eta)
    noise, conditions = inputs(2)
    key = jax.random.key(3)
    latents, _ = sample(schedule, noise, conditions, TemporalWeights(0.7, 0.4, 0.9, 0.5), key=key)

    alphas, previous = alphas_cumprod(config), None
    for f in range(2):
        x = noise[f].astype(np.float64)
        for i, t in enumerate(schedule.timesteps):
            a, a_prev = alphas[t], alphas[max(t - 200, 0)]
            s = eta * np.sqrt((1 - a_prev) / (1 - a)) * np.sqrt(1 - a / a_prev)
            z = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, f), i), SHAPE[1:]))
            out = network(x, t, conditions[f], np)
            x0 = np.sqrt(a) * x - np.sqrt(1 - a) * out
            rest = np.sqrt(1 - a_prev - s**2) * (np.sqrt(a) * out + np.sqrt(1 - a) * x) + s * z
            mixed = previous is not None and i == 2
            x = np.sqrt(a_prev) * (0.7 * x0 + 0.4 * previous) + 0.9 * rest if mixed else np.sqrt(a_prev) * x0 + rest
        np.testing.assert_allclose(latents[f], x, rtol=0, atol=3e-5 * x.std())
        previous = x


def test_shot_starts_cut_the_link_to_the_frame_before():
    noise, conditions = inputs(5)
    starts = np.array([False, False, True, False, False])
    schedule = Schedule.from_config(SD, 6)
    latents, _ = sample(schedule, noise, conditions, MIXED, shot_starts=starts)
    expected = numpy_sequence(SD, 6, noise, conditions, (0.7, 0.4, 0.9), [3], starts=[2])
    np.testing.assert_allclose(latents, expected, rtol=0, atol=2e-5 * expected.std())
    second_shot, _ = sample(schedule, noise[2:], conditions[2:], MIXED, shot_starts=starts[2:])
    np.testing.assert_array_equal(latents[2:], second_shot)


def test_steps_before_tau_do_not_depend_on_other_frames():
    """All frames go through them first, then one after the other through the rest."""
    schedule = Schedule.from_config(SD, 6)
    noise, conditions = inputs(2)
    conditions[0, 0, 0, 0, 0], conditions[1, 0, 0, 0, 0] = 0, 1
    seen = []

    @jax.jit
    def render(temporal):
        def spy(latent, timestep, condition):
            frame = condition[0, 0, 0, 0]
            jax.debug.callback(lambda *inputs: seen.append(tuple(map(np.asarray, inputs))), frame, timestep, latent)
            return network(latent, timestep, condition)

        return sample_sequence(spy, schedule, noise, conditions, temporal)

    trajectories, orders = [], []
    for temporal in (PLAIN, TemporalWeights(0.7, 0.4, 0.9, 0.6)):  # step round(0.6 * 5) = 3
        jax.block_until_ready(render(temporal))
        jax.effects_barrier()
        steps = [(int(frame), schedule.timesteps.tolist().index(int(timestep))) for frame, timestep, _ in seen]
        trajectories.append(dict(zip(steps, [latent for *_, latent in seen], strict=True)))
        orders.append(steps)
        seen.clear()
    plain, mixed = trajectories
    assert len(plain) == len(mixed) == 12
    other = {step for step in plain if not np.array_equal(plain[step], mixed[step])}
    # What the step 3 of the second frame makes.
    assert other == {(1, 4), (1, 5)}
    assert max(map(orders[1].index, [(0, 2), (1, 2)])) < min(map(orders[1].index, [(0, 3), (1, 3)]))


@pytest.mark.parametrize(
    "temporal", [PLAIN, MIXED, TemporalWeights(0.7, 0.4, 0.9, 0.0), TemporalWeights(0.7, 0.4, 0.9, 1)]
)
@pytest.mark.parametrize("batch", [2, 5, 9])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_batches_of_the_first_phase_change_nothing(batch, temporal, eta):
    schedule = Schedule.from_config(SD, 6, eta)
    noise, conditions = inputs(5)
    key = jax.random.key(2) if eta else None
    alone, carry = sample(schedule, noise, conditions, temporal, key=key)
    together, after = jax.jit(partial(sample_sequence, network, batch=batch))(
        schedule, noise, conditions, temporal, key=key
    )
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.std(alone))
    assert (after.frame == 5).all() and (carry.frame == 5).all()


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_of_any_size_give_the_same_latents(chunk, eta):
    schedule = Schedule.from_config(SD, 6, eta)
    noise, conditions = inputs(9)
    starts = np.zeros(9, bool)
    starts[4] = True
    key = jax.random.key(2) if eta else None
    whole, _ = sample(schedule, noise, conditions, MIXED, shot_starts=starts, key=key)
    carry, parts = Carry.empty(SHAPE), []
    for a in range(0, 9, chunk):
        part = slice(a, a + chunk)
        latents, carry = sample(schedule, noise[part], conditions[part], MIXED, carry, starts[part], key)
        parts.append(latents)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (carry.frame == 9).all()


def test_a_latent_is_taken_as_the_frame_before():
    schedule = Schedule.from_config(SD, 6)
    noise, conditions = inputs(3)
    whole, _ = sample(schedule, noise, conditions, MIXED)
    rest, _ = sample(schedule, noise[2:], conditions[2:], MIXED, whole[1])
    np.testing.assert_array_equal(rest, whole[2:])


def test_one_compilation_whatever_weights_tau_strength_and_chunk():
    traces = []

    @jax.jit
    def render(strength, schedule, noise, conditions, temporal, carry):
        traces.append(1)

        def predict(latent, t, condition):
            return network(latent, t, condition * strength)

        return sample_sequence(guide(doubled(predict), strength), schedule, noise, conditions, temporal, carry)

    noise, conditions = inputs(2)
    carry = Carry.empty(SHAPE)
    results = []
    for strength, temporal, config in (
        (np.float32(1), PLAIN, SD),
        (np.float32(0.5), TemporalWeights(0.7, 0.4, 0.9, 0.6), {**SD, "timestep_spacing": "trailing"}),
        (np.float32(0.5), TemporalWeights(1, 0, 1, 0, 1), SD),
        (
            np.float32(2),
            TemporalWeights(jnp.float32(0.5), np.float32(0.5), 1, 1),
            {**SD, "set_alpha_to_one": True},
        ),
    ):
        latents, carry = render(strength, Schedule.from_config(config, 5), noise, conditions, temporal, carry)
        results.append(np.asarray(latents))
    assert len(traces) == 1
    assert len({r.tobytes() for r in results}) == len(results)


def doubled(predict):
    """A network for guidance, whose unconditional half sees a condition of zeros."""
    return lambda latent, timestep, condition: predict(
        latent, timestep, jnp.concatenate([jnp.zeros_like(condition), condition])
    )


def test_guidance_goes_from_unconditional_to_conditional_and_beyond():
    noise, conditions = inputs(1)
    conditional = np.asarray(network(noise[0], 3, conditions[0]))
    unconditional = np.asarray(network(noise[0], 3, 0 * conditions[0]))
    for scale in (0.0, 1.0, 7.5):
        guided = guide(doubled(network), scale)(noise[0], 3, conditions[0])
        expected = (1 - scale) * unconditional + scale * conditional
        np.testing.assert_allclose(guided, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(guide(doubled(network), 1.0)(noise[0], 3, conditions[0]), conditional)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 0, 1, 1.5), "tau is 1.5, allowed: 0"),
        ((1, 0, 1, -0.1), "tau is -0.1"),
        ((1, 0, 1, 0.5, 0.2), "tau_end is 0.2"),
        ((float("nan"), 0, 1, 0.5), "current is nan"),
    ],
)
def test_weights_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TemporalWeights(*values)


def test_wrong_calls_are_named():
    noise, conditions = inputs(2)
    with pytest.raises(ValueError, match="key is None"):
        sample(Schedule.from_config(SD, 3, eta=1.0), noise, conditions, PLAIN)
    schedule = Schedule.from_config(SD, 3)
    with pytest.raises(ValueError, match="carry has shape"):
        sample(schedule, noise, conditions, PLAIN, noise)
    with pytest.raises(ValueError, match="shot_starts has shape"):
        sample(schedule, noise, conditions, PLAIN, shot_starts=np.zeros(3, bool))
