"""The image autoencoder of Stable Diffusion (AutoencoderKL in diffusers)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models import config as reader
from svp_jax.models.attention import VAE_NORM_EPS, VAEAttention
from svp_jax.models.layers import Conv, GroupNorm, ResnetBlock, upsample_nearest

DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
LOGVAR_RANGE = (-30.0, 20.0)
_ONLY = {
    "act_fn": ("silu", "swish"),
    "shift_factor": (None,),
    "latents_mean": (None,),
    "latents_std": (None,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "mid_block_add_attention": (True,),
}


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Everything that fixes a VAE; `scaling_factor` is for the users of its latents, `sample_size` a note."""

    in_channels: int
    out_channels: int
    latent_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_num_groups: int
    scaling_factor: float
    sample_size: int | tuple[int, ...] | None

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel, along one side."""
        return 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> "VAEConfig":
        """From a diffusers AutoencoderKL's config.json; UserError names a key that cannot be honoured."""
        name = "AutoencoderKL"
        defaults = {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "down_block_types": (DOWN,),
            "up_block_types": (UP,),
            "block_out_channels": (64,),
            "layers_per_block": 1,
            "norm_num_groups": 32,
            "scaling_factor": 0.18215,
            "sample_size": 32,
        }
        values = reader.read_keys(name, json, defaults, _ONLY, frozenset({"force_upcast"}))
        channels = reader.positive_ints(name, "block_out_channels", values["block_out_channels"])
        groups = reader.positive_int(name, "norm_num_groups", values["norm_num_groups"])
        if any(width % groups for width in channels):
            raise UserError(
                f"{name} config: block_out_channels {list(channels)} must be multiples of norm_num_groups ({groups})"
            )
        for key, kind in (("down_block_types", DOWN), ("up_block_types", UP)):
            reader.block_types(name, key, values[key], (kind,), len(channels))
        return cls(
            **{key: reader.positive_int(name, key, values[key]) for key in ("in_channels", "out_channels")},
            latent_channels=reader.positive_int(name, "latent_channels", values["latent_channels"]),
            block_out_channels=channels,
            layers_per_block=reader.positive_int(name, "layers_per_block", values["layers_per_block"]),
            norm_num_groups=groups,
            scaling_factor=reader.positive_float(name, "scaling_factor", values["scaling_factor"]),
            sample_size=values["sample_size"],
        )

    def to_json(self) -> dict[str, Any]:
        """The config.json with which diffusers builds the same network."""
        fields = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}
        levels = len(self.block_out_channels)
        return {
            "_class_name": "AutoencoderKL",
            **fields,
            "down_block_types": [DOWN] * levels,
            "up_block_types": [UP] * levels,
        }


class MidBlock(nnx.Module):
    """Resnet, attention, resnet at the lowest resolution."""

    def __init__(self, config: VAEConfig, *, dtype, rngs: nnx.Rngs):
        channels = config.block_out_channels[-1]
        self.resnets = nnx.List([_resnet(config, channels, channels, dtype=dtype, rngs=rngs) for _ in range(2)])
        self.attention = VAEAttention(channels, config.norm_num_groups, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.resnets[1](self.attention(self.resnets[0](x)))


class Level(nnx.Module):
    """Resnets of one resolution, then a halving or doubling or neither."""

    def __init__(
        self,
        config: VAEConfig,
        channels_in: int,
        channels: int,
        layers: int,
        resize: str | None,
        *,
        dtype,
        rngs,
    ):
        widths = [channels_in] + [channels] * (layers - 1)
        self.resnets = nnx.List([_resnet(config, width, channels, dtype=dtype, rngs=rngs) for width in widths])
        self.resize = resize
        if resize == "down":
            # The reference pads only right and bottom here, unlike the UNet.
            padding = ((0, 1), (0, 1))
            self.downsample = Conv(channels, channels, 3, stride=2, padding=padding, dtype=dtype, rngs=rngs)
        if resize == "up":
            self.upsample = Conv(channels, channels, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.resnets:
            x = block(x)
        if self.resize == "down":
            return self.downsample(x)
        return self.upsample(upsample_nearest(x)) if self.resize == "up" else x


class Encoder(nnx.Module):
    """Image -> the two halves of the posterior's parameters, before quant_conv."""

    def __init__(self, config: VAEConfig, *, dtype, rngs: nnx.Rngs):
        channels = config.block_out_channels
        self.conv_in = Conv(config.in_channels, channels[0], 3, dtype=dtype, rngs=rngs)
        self.down_blocks = nnx.List([])
        for level, width in enumerate(channels):
            resize = "down" if level < len(channels) - 1 else None
            before = channels[max(level - 1, 0)]
            self.down_blocks.append(
                Level(config, before, width, config.layers_per_block, resize, dtype=dtype, rngs=rngs)
            )
        self.mid_block = MidBlock(config, dtype=dtype, rngs=rngs)
        self.conv_norm_out = GroupNorm(channels[-1], config.norm_num_groups, VAE_NORM_EPS, dtype=dtype)
        self.conv_out = Conv(channels[-1], 2 * config.latent_channels, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    """Latent after post_quant_conv -> image; one resnet more per level than the encoder."""

    def __init__(self, config: VAEConfig, *, dtype, rngs: nnx.Rngs):
        channels = config.block_out_channels[::-1]
        self.conv_in = Conv(config.latent_channels, channels[0], 3, dtype=dtype, rngs=rngs)
        self.mid_block = MidBlock(config, dtype=dtype, rngs=rngs)
        self.up_blocks = nnx.List([])
        for level, width in enumerate(channels):
            resize = "up" if level < len(channels) - 1 else None
            before = channels[max(level - 1, 0)]
            self.up_blocks.append(
                Level(config, before, width, config.layers_per_block + 1, resize, dtype=dtype, rngs=rngs)
            )
        self.conv_norm_out = GroupNorm(channels[-1], config.norm_num_groups, VAE_NORM_EPS, dtype=dtype)
        self.conv_out = Conv(channels[-1], config.out_channels, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class VAE(nnx.Module):
    """Images in [-1,1] <-> unscaled latents; multiply latents by config.scaling_factor before diffusion."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.config = config
        self.dtype = dtype
        latent = config.latent_channels
        self.encoder = Encoder(config, dtype=dtype, rngs=rngs)
        self.quant_conv = Conv(2 * latent, 2 * latent, 1, dtype=dtype, rngs=rngs)
        self.post_quant_conv = Conv(latent, latent, 1, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(config, dtype=dtype, rngs=rngs)

    def encode(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The posterior of images [B,H,W,3] in [-1,1], H and W multiples of 8, as (mean, logvar).

        Both are [B,H/8,W/8,4] and unscaled; logvar is clamped to [-30,20].
        """
        factor = self.config.factor
        if image.ndim != 4 or image.shape[1] % factor or image.shape[2] % factor:
            raise ValueError(f"image has shape {image.shape}, allowed is [B,H,W,C] with H and W multiples of {factor}")
        mean, logvar = jnp.split(self.quant_conv(self.encoder(image)), 2, axis=-1)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Images [B,8h,8w,3], about [-1,1] and not clipped, from unscaled latents [B,h,w,4]."""
        return self.decoder(self.post_quant_conv(latent))


def to_model(images: jax.Array) -> jax.Array:
    """uint8 [..., 3] -> float32 in [-1,1], as `VAE.encode` takes it."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(pictures: jax.Array) -> jax.Array:
    """What `VAE.decode` gives, about [-1,1] -> uint8, clipped and rounded; a NaN becomes 0."""
    return jnp.round(jnp.clip((pictures.astype(jnp.float32) + 1.0) * 127.5, 0, 255)).astype(jnp.uint8)


def _resnet(config: VAEConfig, channels_in: int, channels_out: int, *, dtype, rngs: nnx.Rngs) -> ResnetBlock:
    return ResnetBlock(
        channels_in, channels_out, groups=config.norm_num_groups, epsilon=VAE_NORM_EPS, dtype=dtype, rngs=rngs
    )
