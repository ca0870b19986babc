"""What the whole networks could hide: resizing, time features, dtype of the softmax, shape checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from svp_jax.models import UNet, UNetConfig, controlnet_from_unet
from svp_jax.models.attention import attend
from svp_jax.models.layers import Conv, conv2d, timestep_embedding, upsample_nearest

CONFIG = {
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}


@pytest.fixture(scope="module")
def unet():
    return UNet(UNetConfig.from_json(CONFIG), rngs=nnx.Rngs(0))


def test_upsample_repeats_each_pixel():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(upsample_nearest(x), x.repeat(2, axis=1).repeat(2, axis=2))


def test_time_features_are_cosines_then_sines():
    features = timestep_embedding(jnp.array([0, 7]), 4)
    frequencies = np.array([1.0, 0.01])
    expected = [np.concatenate([np.cos(t * frequencies), np.sin(t * frequencies)]) for t in (0, 7)]
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_attention_in_bfloat16_has_a_float32_softmax():
    # Logits near 100 are 0.5 apart in bfloat16, an error of tens of per cent after the exponential.
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, 32, 16)) * s, jnp.bfloat16) for s in (6, 6, 1))
    exact = attend(*(x.astype(jnp.float32) for x in (q, k, v)), heads=1)
    assert np.abs(attend(q, k, v, heads=1).astype(jnp.float32) - exact).max() < 0.02


@pytest.mark.parametrize(("length", "causal"), [(9, False), (9, True), (1024, False), (1067, False), (1031, False)])
def test_attention_is_the_same_on_every_backend(length, causal, monkeypatch):
    """Whole, in blocks of 256 and of 97 queries, and where the length is prime."""
    rng = np.random.default_rng(0)
    query, weight = (jnp.asarray(rng.standard_normal((2, length, 12)), jnp.float32) for _ in range(2))
    key, value = (jnp.asarray(rng.standard_normal((2, 9 if causal else 5, 12)), jnp.float32) for _ in range(2))

    def output_and_gradients():
        # Not jitted and a new function each time: nothing is cached between the backends.

        def loss(q, k, v):
            return (attend(q, k, v, heads=3, causal=causal) * weight).sum()

        return attend(query, key, value, heads=3, causal=causal), *jax.grad(loss, (0, 1, 2))(query, key, value)

    on_cpu = output_and_gradients()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for ours, other in zip(on_cpu, output_and_gradients(), strict=True):
        # Gradients of keys and values are sums over all queries.
        np.testing.assert_allclose(ours, other, atol=2e-6 * max(1, np.abs(np.asarray(other)).max()))


def test_parameters_start_as_in_pytorch_inside_jit_and_outside():
    def make():
        return Conv(50, 40, 3, dtype=jnp.float32, rngs=nnx.Rngs(0)).kernel

    for kernel in (make()[...], jax.jit(lambda: make()[...])()):
        bound = (9 * 50) ** -0.5
        assert kernel.min() >= -bound and kernel.max() <= bound
        assert kernel.std() == pytest.approx(bound / 3**0.5, rel=0.02) and abs(kernel.mean()) < 0.02 * bound
    other = Conv(50, 40, 3, dtype=jnp.float32, rngs=nnx.Rngs(1)).kernel[...]
    assert (other != make()[...]).mean() > 0.99


def test_conv_padding_is_what_is_asked_for():
    x = jnp.ones((1, 4, 4, 1))
    conv = Conv(1, 1, 3, stride=2, padding=((0, 1), (0, 1)), dtype=jnp.float32, rngs=nnx.Rngs(0))
    conv.kernel[...] = jnp.ones((3, 3, 1, 1))
    np.testing.assert_array_equal(conv(x)[0, :, :, 0], [[9, 6], [6, 4]])


def test_new_controlnet_changes_nothing_and_owns_its_parameters(unet):
    controlnet = controlnet_from_unet(unet, 5, nnx.Rngs(1))
    sample, text = jnp.ones((1, 4, 4, 4)), jnp.ones((1, 3, 12))
    down, mid = nnx.jit(lambda model, *x: model(*x))(controlnet, sample, jnp.array([5]), text, jnp.ones((1, 32, 32, 5)))
    assert len(down) == 4
    assert not any(residual.any() for residual in (*down, mid))
    np.testing.assert_array_equal(controlnet.conv_in.kernel[...], unet.conv_in.kernel[...])
    for ours, theirs in zip(
        jax.tree.leaves(nnx.state(controlnet.mid_block)),
        jax.tree.leaves(nnx.state(unet.mid_block)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.unsafe_buffer_pointer() != theirs.unsafe_buffer_pointer()


def test_wrong_shapes_are_named(unet):
    controlnet = controlnet_from_unet(unet, 5, nnx.Rngs(1))
    time, text = jnp.array([5]), jnp.ones((1, 3, 12))
    with pytest.raises(ValueError, match=r"sample has shape \(1, 3, 4, 4\).*multiples of 2"):
        unet(jnp.ones((1, 3, 4, 4)), time, text)
    with pytest.raises(ValueError, match=r"condition has shape.*must be \(1, 32, 32, 5\)"):
        controlnet(jnp.ones((1, 4, 4, 4)), time, text, jnp.ones((1, 32, 32, 4)))
    with pytest.raises(ValueError, match="zip"):
        unet(jnp.ones((1, 4, 4, 4)), time, text, [jnp.zeros(1)])


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 1), (0, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize(("stride", "channels"), [(1, (5, 2)), (1, (2, 5)), (2, (5, 2))])
def test_convolution_has_the_gradients_of_lax(stride, channels, padding):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 8, channels[0]), np.float32)
    kernel = rng.standard_normal((3, 3, *channels), np.float32)

    def plain(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout)

    y, transpose = jax.vjp(lambda x, kernel: conv2d(x, kernel, stride, padding), x, kernel)
    expected, reference = jax.vjp(plain, x, kernel)
    np.testing.assert_array_equal(y, expected)
    gradient = rng.standard_normal(y.shape, np.float32)
    for ours, theirs in zip(transpose(gradient), reference(gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
