"""A UNet by the deep features of a step before, and a ControlNet of another strength for each of a batch."""

import jax
import numpy as np
import pytest
from factories import ENCODER, UNET, random_model
from flax import nnx

from svp_jax.models import ControlNet, ControlNetConfig, UNet, UNetConfig
from svp_jax.models.controlnet import hint_of

# Three levels, of two layers each: so that the finest is not all but one.
LEVELS = {
    "block_out_channels": [8, 8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 2,
}
UP = {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}
TIMESTEPS = np.array([11, 640, 981])
STRENGTHS = np.array([0.0, 0.3, 1.5], np.float32)


@pytest.fixture(scope="module")
def unet():
    return random_model(UNet, UNetConfig.from_json({**UNET, **LEVELS, **UP}), np.random.default_rng(0))


@pytest.fixture(scope="module")
def inputs():
    """Of UNet and ControlNet: latents, timesteps, text."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((3, 8, 8, 4), np.float32), TIMESTEPS, rng.standard_normal((3, 5, 16), np.float32)


@pytest.fixture(scope="module")
def control(inputs):
    """(rows) -> the residuals of a random ControlNet of these, each at its own strength."""
    config = ControlNetConfig.from_json({**ENCODER, **LEVELS, "conditioning_channels": 9})
    rng = np.random.default_rng(2)
    # As in an avatar of the factories: at gain 1 all conditions look alike.
    controlnet = random_model(ControlNet, config, rng, gain=2.0)
    hint = nnx.jit(hint_of)(controlnet, rng.integers(0, 256, (3, 64, 64, 9), np.uint8))

    @nnx.jit
    def residuals(controlnet, inputs, hint, scale):
        return controlnet.residuals(*inputs, hint, scale)

    def of(rows):
        return residuals(controlnet, tuple(x[rows] for x in inputs), hint[rows], STRENGTHS[rows])

    return of


@nnx.jit
def whole(unet, inputs, down, mid):
    return unet.with_deep_features(*inputs, down, mid)


@nnx.jit
def finest(unet, inputs, deep, down):
    return unet.by_deep_features(*inputs, deep, down)


def test_the_finest_level_by_deep_features_of_the_same_step_gives_the_whole_output(unet, inputs, control):
    steered = control(slice(None))
    outputs = []
    for down, mid in (steered, jax.tree.map(np.zeros_like, steered)):
        output, deep = whole(unet, inputs, down, mid)
        # Rounding alone: the same sums, compiled with others around them.
        assert difference(finest(unet, inputs, deep, down[: unet.finest_skips]), output) < 1e-5
        outputs.append(output)
    assert difference(*outputs) > 0.1


def test_other_deep_features_latents_times_texts_and_residuals_change_the_output(unet, inputs, control):
    sample, timesteps, text = inputs
    down, mid = control(slice(None))
    needed = down[: unet.finest_skips]
    output, deep = whole(unet, inputs, down, mid)
    _, other = whole(unet, (sample[::-1], timesteps, text), down, mid)
    for changed in (
        finest(unet, inputs, other, needed),
        finest(unet, (sample[::-1], timesteps, text), deep, needed),
        finest(unet, (sample, timesteps[::-1], text), deep, needed),
        finest(unet, (sample, timesteps, text[::-1]), deep, needed),
        finest(unet, inputs, deep, tuple(x[::-1] for x in needed)),
    ):
        assert difference(changed, output) > 1e-2


def test_a_strength_for_each_of_a_batch_is_that_of_each_alone(control):
    down, mid = control(slice(None))
    for row, strength in enumerate(STRENGTHS):
        alone_down, alone_mid = control(slice(row, row + 1))
        for together, alone in zip((*down, mid), (*alone_down, alone_mid), strict=True):
            assert strength or not together[row].any()
            # Rounding: sums over one or three rows may go in another order.
            np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-5 * np.std(together))
            assert not strength or np.std(together[row]) > 0.01


def difference(ours, other):
    return np.abs(np.asarray(ours) - np.asarray(other)).max() / np.std(other)
