"""The Inception v3 that FID and KID look through: TensorFlow's of 2015-12-05, as pytorch-fid ported it.

It differs from torchvision's: average poolings leave the padding out, and the last block pools by maximum. Modules
and parameters are called as in the published file.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.metrics.networks.layers import BatchNorm, Conv, average_pool_3x3, max_pool, resize_bilinear
from svp_jax.metrics.networks.published import PublishedFile, open_published
from svp_jax.weights.tables import CONV, SAME

SIDE = 299  # pixels of the network's input
FEATURES = 2048  # of `pool3`, the last layer before the classes

_FILE = PublishedFile(
    "pt_inception-2015-12-05-6726825d.pth",
    ((r"(.+)\.conv\.kernel", r"\1.conv.weight", CONV), (r"(.+\.bn\.\w+)", r"\1", SAME)),
    # The classes, and how many steps the statistics were gathered in.
    unused=r"fc\.(weight|bias)|.+\.bn\.num_batches_tracked",
)


class Inception:
    """The features of pictures that FID and KID compare; `open_inception` makes it.

    Attributes:
        sha256: of the file of weights, by its name.
    """

    def __init__(self, graph: nnx.GraphDef, state: nnx.State, sha256: dict[str, str]):
        self.sha256 = sha256
        self._graph = graph
        self._state = state

    def features(self, images: np.ndarray) -> np.ndarray:
        """`pool3` of pictures uint8 [N, H, W, 3] of any size: float32 [N, 2048].

        Pictures are resized to 299 x 299, bilinear and without antialiasing, as pytorch-fid does. Each shape of a batch
        is compiled once, so give batches of one size.
        """
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not images.size:
            raise ValueError(f"images are {images.dtype} {images.shape}, allowed: uint8 [N, H, W, 3]")
        return np.asarray(_features(self._graph, self._state, images))


def open_inception() -> Inception:
    """The network with its published weights.

    Raises:
        UserError: the weights are not there (the message says how to get them) or are others.
    """
    return Inception(*open_published("FID's and KID's Inception", InceptionV3, (_FILE,)))


@partial(jax.jit, static_argnames="graph")
def _features(graph: nnx.GraphDef, state: nnx.State, images: jax.Array) -> jax.Array:
    x = resize_bilinear(images.astype(jnp.float32) / 255, SIDE)
    return nnx.merge(graph, state)(2 * x - 1)


class InceptionV3(nnx.Module):
    """[N,299,299,3] in [-1, 1] -> [N,2048]; Szegedy et al. (2015), without classes."""

    def __init__(self):
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, (3, 3))
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, average_pool_3x3)
        self.Mixed_7c = BlockE(2048, _max_pool_3x3)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool(x, 3, 2))))  # 35 x 35 x 288
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # 17 x 17 x 768
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # 8 x 8 x 2048
        return x.mean(axis=(1, 2))


class ConvNorm(nnx.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ):
        self.conv = Conv(channels_in, channels_out, size, stride=stride, padding=padding, bias=False)
        self.bn = BatchNorm(channels_out, epsilon=1e-3)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.bn(self.conv(x)))


def _same(channels_in: int, channels_out: int, height: int, width: int) -> ConvNorm:
    """Stride 1 and padded, so that the picture keeps its size."""
    return ConvNorm(channels_in, channels_out, (height, width), padding=(height // 2, width // 2))


def _max_pool_3x3(x: jax.Array) -> jax.Array:
    return max_pool(x, 3, 1, padding=1)


def _joined(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, axis=-1)


class BlockA(nnx.Module):
    """35 x 35 pixels; 224 + `pool_channels` channels."""

    def __init__(self, channels: int, pool_channels: int):
        self.branch1x1 = _same(channels, 64, 1, 1)
        self.branch5x5_1 = _same(channels, 48, 1, 1)
        self.branch5x5_2 = _same(48, 64, 5, 5)
        self.branch3x3dbl_1 = _same(channels, 64, 1, 1)
        self.branch3x3dbl_2 = _same(64, 96, 3, 3)
        self.branch3x3dbl_3 = _same(96, 96, 3, 3)
        self.branch_pool = _same(channels, pool_channels, 1, 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        return _joined(
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(average_pool_3x3(x)),
        )


class BlockB(nnx.Module):
    """35 x 35 pixels to 17 x 17; 480 channels more."""

    def __init__(self, channels: int):
        self.branch3x3 = ConvNorm(channels, 384, (3, 3), stride=2)
        self.branch3x3dbl_1 = _same(channels, 64, 1, 1)
        self.branch3x3dbl_2 = _same(64, 96, 3, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, (3, 3), stride=2)

    def __call__(self, x: jax.Array) -> jax.Array:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return _joined(self.branch3x3(x), double, max_pool(x, 3, 2))


class BlockC(nnx.Module):
    """17 x 17 pixels; 768 channels; `inner` ones between its 1 x 7 and 7 x 1 convolutions."""

    def __init__(self, channels: int, inner: int):
        self.branch1x1 = _same(channels, 192, 1, 1)
        self.branch7x7_1 = _same(channels, inner, 1, 1)
        self.branch7x7_2 = _same(inner, inner, 1, 7)
        self.branch7x7_3 = _same(inner, 192, 7, 1)
        self.branch7x7dbl_1 = _same(channels, inner, 1, 1)
        self.branch7x7dbl_2 = _same(inner, inner, 7, 1)
        self.branch7x7dbl_3 = _same(inner, inner, 1, 7)
        self.branch7x7dbl_4 = _same(inner, inner, 7, 1)
        self.branch7x7dbl_5 = _same(inner, 192, 1, 7)
        self.branch_pool = _same(channels, 192, 1, 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return _joined(
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(average_pool_3x3(x)),
        )


class BlockD(nnx.Module):
    """17 x 17 pixels to 8 x 8; 512 channels more."""

    def __init__(self, channels: int):
        self.branch3x3_1 = _same(channels, 192, 1, 1)
        self.branch3x3_2 = ConvNorm(192, 320, (3, 3), stride=2)
        self.branch7x7x3_1 = _same(channels, 192, 1, 1)
        self.branch7x7x3_2 = _same(192, 192, 1, 7)
        self.branch7x7x3_3 = _same(192, 192, 7, 1)
        self.branch7x7x3_4 = ConvNorm(192, 192, (3, 3), stride=2)

    def __call__(self, x: jax.Array) -> jax.Array:
        long = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return _joined(self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(long), max_pool(x, 3, 2))


class BlockE(nnx.Module):
    """8 x 8 pixels; 2048 channels; `pool` keeps the size."""

    def __init__(self, channels: int, pool: Callable[[jax.Array], jax.Array]):
        self.branch1x1 = _same(channels, 320, 1, 1)
        self.branch3x3_1 = _same(channels, 384, 1, 1)
        self.branch3x3_2a = _same(384, 384, 1, 3)
        self.branch3x3_2b = _same(384, 384, 3, 1)
        self.branch3x3dbl_1 = _same(channels, 448, 1, 1)
        self.branch3x3dbl_2 = _same(448, 384, 3, 3)
        self.branch3x3dbl_3a = _same(384, 384, 1, 3)
        self.branch3x3dbl_3b = _same(384, 384, 3, 1)
        self.branch_pool = _same(channels, 192, 1, 1)
        self.pool = pool

    def __call__(self, x: jax.Array) -> jax.Array:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return _joined(
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        )
