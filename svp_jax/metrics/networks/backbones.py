"""The convolutions of AlexNet and VGG16 (torchvision's), up to the layers that LPIPS compares."""

import jax
from flax import nnx

from svp_jax.metrics.networks.layers import Conv, max_pool


class AlexNet(nnx.Module):
    """[N,H,W,3] -> five feature maps [N,h,w,C], each behind its ReLU; Krizhevsky (2014), "one weird trick"."""

    channels = (64, 192, 384, 256, 256)
    smallest = 31  # pixels of the picture's side: both poolings have a window

    def __init__(self):
        # Keys are torchvision's positions in `features`.
        self.features = nnx.Dict(
            {
                "0": Conv(3, 64, (11, 11), stride=4, padding=(2, 2), bias=True),
                "3": Conv(64, 192, (5, 5), stride=1, padding=(2, 2), bias=True),
                "6": _conv_3x3(192, 384),
                "8": _conv_3x3(384, 256),
                "10": _conv_3x3(256, 256),
            }
        )

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        maps = []
        # Not the dictionary's own order: NNX sorts keys, "10" before "3".
        for position in ("0", "3", "6", "8", "10"):
            x = max_pool(x, 3, 2) if position in ("3", "6") else x
            x = jax.nn.relu(self.features[position](x))
            maps.append(x)
        return maps


class VGG16(nnx.Module):
    """[N,H,W,3] -> five feature maps [N,h,w,C], behind each block's last ReLU; Simonyan and Zisserman (2014), D."""

    channels = (64, 128, 256, 512, 512)
    smallest = 16
    # Positions in torchvision's `features`: each convolution is followed by a ReLU, each block by a pooling.
    blocks = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))

    def __init__(self):
        self.features = nnx.Dict()
        channels_in = 3
        for channels, block in zip(self.channels, self.blocks, strict=True):
            for position in block:
                self.features[str(position)] = _conv_3x3(channels_in, channels)
                channels_in = channels

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        maps = []
        for block in self.blocks:
            x = max_pool(x, 2, 2) if maps else x
            for position in block:
                x = jax.nn.relu(self.features[str(position)](x))
            maps.append(x)
        return maps


def _conv_3x3(channels_in: int, channels_out: int) -> Conv:
    return Conv(channels_in, channels_out, (3, 3), stride=1, padding=(1, 1), bias=True)
