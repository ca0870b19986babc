"""Layers as PyTorch computes them, for networks that are only looked through: NHWC, float32, nothing is trained.

Products are in full float32 on every device: GPUs and TPUs would else round the factors to fewer digits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

EXACT = lax.Precision.HIGHEST
_NHWC = ("NHWC", "HWIO", "NHWC")


class Conv(nnx.Module):
    """2-D convolution [N,H,W,I] -> [N,H',W',O], with a bias [O] or without; zeros until its weights are read."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: tuple[int, int],
        *,
        stride: int,
        padding: tuple[int, int],
        bias: bool,
    ):
        """`size` and `padding` are of rows and columns; as many zeros are padded before as behind."""
        self.kernel = nnx.Param(jnp.zeros((*size, channels_in, channels_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels_out,), jnp.float32)) if bias else None
        self.stride = stride
        self.padding = padding

    def __call__(self, x: jax.Array) -> jax.Array:
        padding = [(each, each) for each in self.padding]
        strides = (self.stride, self.stride)
        y = lax.conv_general_dilated(x, self.kernel[...], strides, padding, dimension_numbers=_NHWC, precision=EXACT)
        return y if self.bias is None else y + self.bias[...]


class BatchNorm(nnx.Module):
    """Batch normalisation by stored statistics, as in PyTorch's eval mode, whose names its parameters have."""

    def __init__(self, channels: int, epsilon: float):
        self.weight, self.bias, self.running_mean, self.running_var = (
            nnx.Param(jnp.zeros((channels,), jnp.float32)) for _ in range(4)
        )
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        factor = lax.rsqrt(self.running_var[...] + self.epsilon) * self.weight[...]
        return (x - self.running_mean[...]) * factor + self.bias[...]


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over size x size windows that lie in the padded picture; what is padded never wins."""
    return lax.reduce_window(x, -jnp.inf, lax.max, *_window(size, stride, padding))


def average_pool_3x3(x: jax.Array) -> jax.Array:
    """Mean over 3 x 3 windows, stride 1, of the pixels that lie in the picture (`count_include_pad=False`)."""
    window = _window(3, 1, 1)
    counts = lax.reduce_window(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0, lax.add, *window)
    return lax.reduce_window(x, 0.0, lax.add, *window) / counts


def _window(size: int, stride: int, padding: int) -> tuple:
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return (1, size, size, 1), (1, stride, stride, 1), sides


def resize_bilinear(x: jax.Array, size: int) -> jax.Array:
    """[N,H,W,C] -> [N,size,size,C] between the two nearest pixels along each axis, however much it shrinks.

    That is PyTorch's `interpolate(mode="bilinear", align_corners=False, antialias=False)`.
    """
    rows, columns = (jnp.asarray(_interpolation(length, size)) for length in x.shape[1:3])
    x = jnp.einsum("oh,nhwc->nowc", rows, x, precision=EXACT)
    return jnp.einsum("ow,nhwc->nhoc", columns, x, precision=EXACT)


def _interpolation(length: int, size: int) -> np.ndarray:
    """float32 [size, length]: how much each of `length` pixels counts for each of `size`."""
    places = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    left = np.floor(places).astype(int)
    right = np.minimum(left + 1, length - 1)
    matrix = np.zeros((size, length))
    np.add.at(matrix, (np.arange(size), left), 1 - (places - left))
    np.add.at(matrix, (np.arange(size), right), places - left)
    return matrix.astype(np.float32)
