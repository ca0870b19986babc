"""LPIPS: how different two pictures look, by the features of AlexNet or VGG16 (Zhang et al. 2018, version 0.1)."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.metrics.networks.backbones import VGG16, AlexNet
from svp_jax.metrics.networks.layers import EXACT
from svp_jax.metrics.networks.published import PublishedFile, open_published
from svp_jax.weights.tables import CONV, SAME, Layout

# Of pictures in [-1, 1], as the `lpips` package has it: ImageNet's means and deviations, rounded.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # added to a feature's length, outside of the root

Net = Literal["alex", "vgg"]
Features = list[jax.Array]
"""Five maps [N,h,w,C] of features of length 1."""

_HEAD = Layout(lambda x: x[0, :, 0, 0], lambda x: x[None, :, None, None])  # 1,C,1,1 <-> C
_BACKBONE = (
    (r"backbone\.(features\.\d+)\.kernel", r"\1.weight", CONV),
    (r"backbone\.(features\.\d+)\.bias", r"\1.bias", SAME),
)
_HEADS = ((r"heads\.(\d)", r"lin\1.model.1.weight", _HEAD),)
# LPIPS stops before the layers that classify.
_CLASSIFIER = r"classifier\.\d\.(weight|bias)"
_NOTHING = r"(?!)"
_NETS = {
    "alex": (AlexNet, "lpips/alexnet-owt-7be5be79.pth", "lpips/alex.pth"),
    "vgg": (VGG16, "lpips/vgg16-397923af.pth", "lpips/vgg.pth"),
}


class _Network(nnx.Module):
    """A backbone, and how much each channel of its five maps counts."""

    def __init__(self, backbone: type[AlexNet | VGG16]):
        self.backbone = backbone()
        self.heads = nnx.List([nnx.Param(jnp.zeros((channels,), jnp.float32)) for channels in backbone.channels])


class LPIPS:
    """LPIPS with one network; `open_lpips` makes it.

    Each shape of a batch is compiled once, so give batches of one size.

    Attributes:
        net: "alex" or "vgg".
        sha256: of each file of weights, by its name.
        smallest: least height and width of pictures.
    """

    def __init__(self, net: Net, graph: nnx.GraphDef, state: nnx.State, sha256: dict[str, str]):
        self.net = net
        self.sha256 = sha256
        self.smallest = _NETS[net][0].smallest
        self._graph = graph
        self._state = state

    def __call__(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        """LPIPS of each pair, float32 [N]; 0 for equal pictures, and larger the more they differ.

        Args:
            images, references: uint8, or float in [0, 1], [N, H, W, 3] each.

        Raises:
            UserError: they are smaller than the network's poolings need.
        """
        if images.shape != references.shape:
            raise ValueError(f"images are {images.shape}, references {references.shape}: they must have one shape")
        return self.distance(self.features(images), self.features(references))

    def features(self, images: np.ndarray) -> Features:
        """What `distance` compares, on the device; for pictures that are compared more than once.

        VGG's take 130 MB for a picture of 512 x 512, AlexNet's 6 MB.

        Args and errors as of the call.
        """
        if images.ndim != 4 or images.shape[-1] != 3 or not _is_picture(images.dtype):
            raise ValueError(f"images are {images.dtype} {images.shape}, allowed: uint8 or float [N, H, W, 3]")
        height, width = images.shape[1:3]
        if min(height, width) < self.smallest:
            raise UserError(
                f"LPIPS ({self.net}) needs pictures of {self.smallest} x {self.smallest} pixels or more, these are "
                f"{width} x {height}"
            )
        return _features(self._graph, self._state, images)

    def distance(self, features: Features, reference_features: Features) -> np.ndarray:
        """LPIPS float32 [N] of pictures whose features are given."""
        return np.asarray(_distance(self._graph, self._state, features, reference_features))


def open_lpips(net: Net) -> LPIPS:
    """LPIPS with its published weights: torchvision's of ImageNet, and the linear ones of the `lpips` package, v0.1.

    Raises:
        UserError: the weights are not there (the message says how to get them) or are others.
    """
    if net not in _NETS:
        raise ValueError(f"net is {net!r}, allowed: {', '.join(_NETS)}")
    backbone, features, heads = _NETS[net]
    files = (PublishedFile(features, _BACKBONE, _CLASSIFIER), PublishedFile(heads, _HEADS, _NOTHING))
    return LPIPS(net, *open_published(f"LPIPS ({net})", lambda: _Network(backbone), files))


def _is_picture(dtype: np.dtype) -> bool:
    return dtype == np.uint8 or jnp.issubdtype(dtype, jnp.floating)


@partial(jax.jit, static_argnames="graph")
def _features(graph: nnx.GraphDef, state: nnx.State, images: jax.Array) -> Features:
    unit = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images.astype(jnp.float32)
    x = (2 * unit - 1 - jnp.array(SHIFT, jnp.float32)) / jnp.array(SCALE, jnp.float32)
    maps = nnx.merge(graph, state).backbone(x)
    return [y / (jnp.sqrt(jnp.sum(jnp.square(y), axis=-1, keepdims=True)) + EPSILON) for y in maps]


@partial(jax.jit, static_argnames="graph")
def _distance(graph: nnx.GraphDef, state: nnx.State, features: Features, others: Features) -> jax.Array:
    heads = nnx.merge(graph, state).heads
    total = jnp.zeros(features[0].shape[0], jnp.float32)
    for a, b, head in zip(features, others, heads, strict=True):
        # Averaged over the map first: the head is linear.
        total += jnp.einsum("nc,c->n", jnp.square(a - b).mean(axis=(1, 2)), head[...], precision=EXACT)
    return total
