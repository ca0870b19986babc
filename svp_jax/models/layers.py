"""Layers that the networks share; eps, padding and variance are given here, never a framework's default."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Padding = tuple[tuple[int, int], tuple[int, int]]
SAME_3X3: Padding = ((1, 1), (1, 1))


def uniform_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """PyTorch's own start for Linear and Conv2d: uniform in +-1/sqrt(fan_in), outputs on the last axis."""
    return uniform(key, shape, math.prod(shape[:-1]) ** -0.5).astype(dtype)


def uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    """Float32 numbers in [-bound, bound).

    Outside of jit NumPy draws them: XLA compiles a generator for each shape, half a minute for a small UNet.
    """
    if isinstance(key, jax.core.Tracer):
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return jnp.asarray(generator.random(shape, np.float32) * (2 * bound) - bound)


def linear(features_in: int, features_out: int, *, bias: bool = True, dtype, rngs: nnx.Rngs) -> nnx.Linear:
    """Dense layer: float32 parameters, computed in `dtype`."""
    return nnx.Linear(
        features_in,
        features_out,
        use_bias=bias,
        kernel_init=uniform_init,
        dtype=dtype,
        param_dtype=jnp.float32,
        dot_general=_dot_rows,
        rngs=rngs,
    )


def _dot_rows(x: jax.Array, kernel: jax.Array, dimension_numbers, **options) -> jax.Array:
    """`lax.dot_general` of [..., I] and [I, O] with the leading axes of `x` as one.

    XLA's CPU backend sums a kernel's gradient over one axis about six times as fast as over two.
    """
    rows = x.reshape(-1, x.shape[-1])
    y = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def copy_of(module: nnx.Module) -> nnx.Module:
    """The same module with arrays of its own: donating one's to a training step does not delete the other's."""
    structure, state = nnx.split(module)
    return nnx.merge(structure, jax.tree.map(jnp.copy, state))


class GroupNorm(nnx.Module):
    """Group normalisation over contiguous channels, statistics in float32 and in two passes.

    Not `nnx.GroupNorm`: that reduces over a [pixels, groups, channels of a group] view, which XLA's CPU backend
    does about four times as slowly as sums per channel that are then averaged over each group.
    """

    def __init__(self, channels: int, groups: int, epsilon: float, *, dtype):
        self.scale = nnx.Param(jnp.ones((channels,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))
        self.groups, self.epsilon, self.dtype = groups, epsilon, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B,H,W,C] -> [B,H,W,C]."""
        y = x.astype(jnp.float32)
        y = y - self._group_mean(y)
        # Not E[x^2] - E[x]^2, which cancels where the mean is large.
        factor = jax.lax.rsqrt(self._group_mean(jnp.square(y)) + self.epsilon) * self.scale[...]
        return (y * factor + self.bias[...]).astype(self.dtype)

    def _group_mean(self, x: jax.Array) -> jax.Array:
        """[B,H,W,C] -> [B,1,1,C], each channel the mean of its whole group."""
        batch, channels = x.shape[0], x.shape[-1]
        means = x.mean(axis=(1, 2)).reshape(batch, self.groups, -1).mean(axis=-1)
        return jnp.repeat(means, channels // self.groups, axis=-1)[:, None, None, :]


def layer_norm(channels: int, epsilon: float, *, dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer normalisation over the last axis, statistics in float32."""
    return nnx.LayerNorm(
        channels, epsilon=epsilon, use_fast_variance=False, dtype=dtype, param_dtype=jnp.float32, rngs=rngs
    )


class Conv(nnx.Module):
    """2-D convolution [B,H,W,I] -> [B,H',W',O]; kernel [k,k,I,O] and bias [O] stay float32."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int,
        *,
        stride: int = 1,
        padding: Padding = SAME_3X3,
        zero: bool = False,
        dtype,
        rngs: nnx.Rngs,
    ):
        """`size` is 1 or 3; `padding` counts for 3; `zero` starts kernel and bias at zero (ControlNet)."""
        init = nnx.initializers.zeros_init() if zero else uniform_init
        self.kernel = nnx.Param(init(rngs.params(), (size, size, channels_in, channels_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels_out,), jnp.float32))
        self.stride = stride
        self.padding = padding
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...].astype(self.dtype)
        x = x.astype(self.dtype)
        # A 1x1 convolution is a matrix product over channels, and as such it is fast everywhere.
        y = _dot_rows(x, kernel[0, 0], None) if kernel.shape[0] == 1 else conv2d(x, kernel, self.stride, self.padding)
        return y + self.bias[...].astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Convolution [B,H,W,I] * [k,k,I,O] -> [B,H',W',O] by XLA.

    Take gradients outside of `scan` and `cond`: inside, XLA's CPU backend is some 200 times as slow at the kernel's.
    """
    return _conv2d(x, kernel, stride, padding)


def _conv2d(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv2d_forward(x, kernel, stride, padding):
    return _conv2d(x, kernel, stride, padding), (x, kernel)


def _conv2d_backward(stride, padding, inputs, gradient):
    x, kernel = inputs
    _, transpose = jax.vjp(lambda x, kernel: _conv2d(x, kernel, stride, padding), x, kernel)
    dx, dkernel = transpose(gradient)
    if jax.default_backend() == "cpu" and stride == 1 and kernel.shape[3] < kernel.shape[2]:
        dkernel = _kernel_gradient(x, gradient, kernel.shape[0], padding)
    return dx, dkernel


def _kernel_gradient(x: jax.Array, gradient: jax.Array, size: int, padding: Padding) -> jax.Array:
    """The gradient [k,k,I,O] of a kernel of `size` k and stride 1, from the convolution of `gradient` with `x`.

    lax convolves `x` with `gradient`. XLA's CPU backend copies k * k shifts of what is convolved, so that the one
    with fewer channels should be it: a fifth less time for I = 2 O, a tenth of it for I = 40 O.
    """
    mirrored = tuple((size - 1 - low, size - 1 - high) for low, high in padding)
    shifts = jax.lax.conv_general_dilated(gradient, x, (1, 1), mirrored, dimension_numbers=("CHWN", "IHWO", "HWCN"))
    return jnp.flip(shifts, (0, 1))


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Each pixel twice in both directions, [B,H,W,C] -> [B,2H,2W,C]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def timestep_embedding(timesteps: jax.Array, channels: int) -> jax.Array:
    """Sinusoids of the timesteps, cosines first: [B] -> float32 [B, channels]."""
    half = channels // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nnx.Module):
    """The timestep's features: sinusoids, then two dense layers; [B] -> [B, 4 * channels]."""

    def __init__(self, channels: int, *, dtype, rngs: nnx.Rngs):
        self.channels = channels
        self.linear_1 = linear(channels, 4 * channels, dtype=dtype, rngs=rngs)
        self.linear_2 = linear(4 * channels, 4 * channels, dtype=dtype, rngs=rngs)

    def __call__(self, timesteps: jax.Array) -> jax.Array:
        x = self.linear_1(timestep_embedding(timesteps, self.channels))
        return self.linear_2(jax.nn.silu(x))


class ResnetBlock(nnx.Module):
    """Two normalised 3x3 convolutions and a shortcut; in the UNet the time features are added in between."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        groups: int,
        epsilon: float,
        time_channels: int | None = None,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.norm1 = GroupNorm(channels_in, groups, epsilon, dtype=dtype)
        self.conv1 = Conv(channels_in, channels_out, 3, dtype=dtype, rngs=rngs)
        if time_channels is not None:
            self.time_emb_proj = linear(time_channels, channels_out, dtype=dtype, rngs=rngs)
        self.norm2 = GroupNorm(channels_out, groups, epsilon, dtype=dtype)
        self.conv2 = Conv(channels_out, channels_out, 3, dtype=dtype, rngs=rngs)
        self.has_shortcut = channels_in != channels_out
        if self.has_shortcut:
            self.conv_shortcut = Conv(channels_in, channels_out, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        """[B,H,W,I] and the time features [B,T] (UNet only) -> [B,H,W,O]."""
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        if time is not None:
            y = y + self.time_emb_proj(jax.nn.silu(time))[:, None, None, :]
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (self.conv_shortcut(x) if self.has_shortcut else x)
