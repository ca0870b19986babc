"""What of an avatar and of the settings of a render reaches its two stages."""

import jax
import numpy as np
import pytest
from factories import make_avatar, make_base
from flax import nnx

from svp_jax.diffusion import TemporalWeights
from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest, write_manifest
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.quality import with_preset
from svp_jax.rendering.sequences import Sequence, Track
from svp_jax.rendering.stages import build_stages, schedule_of
from svp_jax.rendering.steering import window
from svp_jax.weights.avatar import load_avatar
from svp_jax.weights.base import load_base
from svp_jax.weights.folder import save_model

TRACK = Track(None, np.arange(20), np.arange(20) == 0)
TEMPORAL = TemporalWeights(0.7, 0.3, 1.0, 0.5)


@pytest.fixture(scope="module")
def avatar(base_folder, tmp_path_factory):
    """One with a VAE of its own."""
    folder = make_avatar(tmp_path_factory.mktemp("avatar") / "avatar", base_folder)
    save_model(load_base(make_base(folder.parent / "other", seed=5)).vae, folder / "vae")
    body = {key: value for key, value in read_manifest(folder, "avatar").items() if key != "manifest_sha256"}
    write_manifest(folder, "avatar", body | {"vae_tuned": True})
    return load_avatar(folder)


def stages_of(avatar, strengths=(1.0,), **settings):
    """Of as many sequences as `strengths`, of one track."""
    options = with_preset(RenderOptions(**settings), 10)
    return build_stages(avatar, [TRACK], [Sequence(0, None, each) for each in strengths], options, TEMPORAL)


def test_control_and_guidance_of_each_stage(avatar):
    settings = {"control_start": 0.2, "control_end": 0.6, "guidance_start": 0.1, "guidance_end": 0.5}
    stages = stages_of(avatar, (0.3, 1.5), **settings, guidance=4.0, negative_prompt="b", outlines_strength=0.7)
    schedule = schedule_of(avatar, with_preset(RenderOptions(), 10))
    details = stages.details.steering
    np.testing.assert_array_equal(details.control, window(schedule, 0.2, 0.6))
    np.testing.assert_array_equal(details.guided, window(schedule, 0.1, 0.5))
    assert details.guidance == 4.0 and stages.details.negative is not None
    np.testing.assert_array_equal(details.strength, np.float32([0.3, 1.5]))
    # The first stage has its own strength, and neither windows nor guidance.
    outlines = stages.outlines.steering
    np.testing.assert_array_equal(outlines.control, window(schedule, 0, 1))
    np.testing.assert_array_equal(outlines.strength, np.float32([0.7]))
    assert stages.outlines.negative is None
    assert stages_of(avatar).details.negative is None


@pytest.mark.parametrize(
    ("steps", "begin", "expected"),
    [(10, 0.0, None), (10, 0.04, None), (10, 0.5, 5), (30, 0.99, 29), (1, 0.99, None), (2, 0.99, 1)],
)
def test_frames_that_begin_from_the_one_before_go_through_one_step_at_least(avatar, steps, begin, expected):
    stages = stages_of(avatar, steps=steps, begin=begin)
    assert stages.outlines.shortcuts.begin == stages.details.shortcuts.begin == expected


def test_reuse_of_one_is_none(avatar):
    assert stages_of(avatar).details.shortcuts.anew is None
    stages = stages_of(avatar, reuse=3)
    for stage in (stages.outlines, stages.details):
        assert np.flatnonzero(stage.shortcuts.anew).tolist() == [0, 3, 6, 9]


def test_features_are_computed_anew_where_a_window_begins_or_ends(avatar):
    stages = stages_of(avatar, reuse=4, control_end=0.6, guidance=2.0, guidance_start=0.2, guidance_end=0.9)
    assert np.flatnonzero(stages.details.shortcuts.anew).tolist() == [0, 2, 4, 6, 8, 9]
    # It has no windows.
    assert np.flatnonzero(stages.outlines.shortcuts.anew).tolist() == [0, 4, 8]


@pytest.mark.parametrize("name", ["control", "guidance"])
def test_windows_without_a_step(avatar, name):
    message = f"^--{name}-start 0.31 and --{name}-end 0.39: none of the 10 steps lies between; set them further apart$"
    with pytest.raises(UserError, match=message):
        stages_of(avatar, guidance=2.0, **{f"{name}_start": 0.31, f"{name}_end": 0.39})


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_between_the_bases_and_the_avatars(avatar, share):
    stages = stages_of(avatar, unet=f"{share}")
    own = avatar.stages["details"]
    controlnet, *mixed = nnx.merge(stages.details.networks, stages.details.parameters)
    same(controlnet, own.controlnet)
    for network, base, tuned in zip(mixed, (avatar.base.unet, avatar.base.vae), (own.unet, avatar.vae), strict=True):
        assert any((a != b).any() for a, b in zip(weights(base), weights(tuned), strict=True))
        for found, a, b in zip(weights(network), weights(base), weights(tuned), strict=True):
            # Exact at both ends; rounding of one sum between.
            np.testing.assert_allclose(found, (1 - share) * a + share * b, rtol=0, atol=1e-6 if 0 < share < 1 else 0)
    _, *of_outlines = nnx.merge(stages.outlines.networks, stages.outlines.parameters)
    same(of_outlines[0], avatar.stages["outlines"].unet)
    same(of_outlines[1], avatar.vae)


def weights(network):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.state(network))]


def same(network, other):
    for a, b in zip(weights(network), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
