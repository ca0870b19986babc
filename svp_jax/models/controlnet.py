"""ControlNet: a trainable copy of the UNet's encoder that reads a condition image (ControlNetModel)."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from svp_jax.models import config as reader
from svp_jax.models.layers import Conv, TimeEmbedding, copy_of
from svp_jax.models.unet import (
    ENCODER_DEFAULTS,
    ENCODER_ONLY,
    ENCODER_UNUSED,
    EncoderConfig,
    MidBlock,
    UNet,
    check_sample,
    down_path,
    encoder_fields,
    skip_widths,
)

HINT_CHANNELS = (16, 32, 96, 256)


@dataclasses.dataclass(frozen=True)
class ControlNetConfig(EncoderConfig):
    """Everything that fixes a ControlNet; the hint encoder halves once between each two of its widths."""

    conditioning_channels: int
    conditioning_embedding_out_channels: tuple[int, ...]

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> "ControlNetConfig":
        """From a diffusers ControlNetModel's config.json; UserError names a key that cannot be honoured."""
        name = "ControlNetModel"
        defaults = ENCODER_DEFAULTS | {
            "conditioning_channels": 3,
            "conditioning_embedding_out_channels": HINT_CHANNELS,
        }
        only = ENCODER_ONLY | {
            "controlnet_conditioning_channel_order": ("rgb",),
            "global_pool_conditions": (False,),
        }
        values = reader.read_keys(name, json, defaults, only, ENCODER_UNUSED)
        channels = values["conditioning_embedding_out_channels"]
        return cls(
            **encoder_fields(name, values),
            conditioning_channels=reader.positive_int(name, "conditioning_channels", values["conditioning_channels"]),
            conditioning_embedding_out_channels=reader.positive_ints(
                name, "conditioning_embedding_out_channels", channels
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """The config.json with which diffusers builds the same network."""
        return {
            "_class_name": "ControlNetModel",
            **self.encoder_json(),
            "conditioning_channels": self.conditioning_channels,
            "conditioning_embedding_out_channels": list(self.conditioning_embedding_out_channels),
        }


class HintEncoder(nnx.Module):
    """Condition image [B,8h,8w,C] -> features [B,h,w,C0]; its last convolution starts at zero."""

    def __init__(self, config: ControlNetConfig, *, dtype, rngs: nnx.Rngs):
        widths = config.conditioning_embedding_out_channels
        self.conv_in = Conv(config.conditioning_channels, widths[0], 3, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([])
        for width, wider in itertools.pairwise(widths):
            self.blocks.append(Conv(width, width, 3, dtype=dtype, rngs=rngs))
            self.blocks.append(Conv(width, wider, 3, stride=2, dtype=dtype, rngs=rngs))
        self.conv_out = Conv(widths[-1], config.block_out_channels[0], 3, zero=True, dtype=dtype, rngs=rngs)

    def __call__(self, condition: jax.Array) -> jax.Array:
        x = jax.nn.silu(self.conv_in(condition))
        for block in self.blocks:
            x = jax.nn.silu(block(x))
        return self.conv_out(x)


class ControlNet(nnx.Module):
    """The UNet's encoder with a hint encoder in front and a zero convolution behind each skip."""

    def __init__(self, config: ControlNetConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.config = config
        self.dtype = dtype
        channels = config.block_out_channels
        self.conv_in = Conv(config.in_channels, channels[0], 3, dtype=dtype, rngs=rngs)
        self.time_embedding = TimeEmbedding(channels[0], dtype=dtype, rngs=rngs)
        self.controlnet_cond_embedding = HintEncoder(config, dtype=dtype, rngs=rngs)
        self.down_blocks = down_path(config, dtype=dtype, rngs=rngs)
        self.mid_block = MidBlock(config, dtype=dtype, rngs=rngs)

        def zero(width):
            return Conv(width, width, 1, zero=True, dtype=dtype, rngs=rngs)

        self.controlnet_down_blocks = nnx.List([zero(width) for width in skip_widths(config)])
        self.controlnet_mid_block = zero(channels[-1])

    def __call__(
        self,
        sample: jax.Array,
        timesteps: jax.Array,
        text: jax.Array,
        condition: jax.Array,
        scale: jax.Array | float = 1.0,
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """The residuals that steer the UNet.

        Args:
            sample: scaled latents [B,h,w,in_channels].
            timesteps: [B], 0..999.
            text: features of the text encoder [B,T,cross_attention_dim].
            condition: [B,8h,8w,conditioning_channels] in [0,1] (8 with the usual four hint widths).
            scale: multiplies every residual (diffusers' controlnet_conditioning_scale); [B] for each its own.

        Returns:
            (one residual per skip of the UNet: 12 in Stable Diffusion, the middle block's residual).
        """
        check_sample(self.config, sample)
        factor = 2 ** (len(self.config.conditioning_embedding_out_channels) - 1)
        b, h, w, _ = sample.shape
        expected = (b, factor * h, factor * w, self.config.conditioning_channels)
        if condition.shape != expected:
            raise ValueError(f"condition has shape {condition.shape}, with sample {sample.shape} it must be {expected}")
        return self.residuals(sample, timesteps, text, self.controlnet_cond_embedding(condition), scale)

    def residuals(
        self, sample: jax.Array, timesteps: jax.Array, text: jax.Array, hint: jax.Array, scale: jax.Array | float
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """As `__call__`, by what `hint_of` makes of the condition."""
        time = self.time_embedding(timesteps)
        text = text.astype(self.dtype)

        x = self.conv_in(sample) + hint
        skips = [x]
        for block in self.down_blocks:
            x, new = block(x, time, text)
            skips += new
        x = self.mid_block(x, time, text)

        scale = jnp.asarray(scale, self.dtype).reshape(-1, 1, 1, 1)
        residuals = tuple(zero(skip) * scale for zero, skip in zip(self.controlnet_down_blocks, skips, strict=True))
        return residuals, self.controlnet_mid_block(x) * scale


def controlled(
    unet: UNet,
    controlnet: ControlNet,
    sample: jax.Array,
    timesteps: jax.Array,
    text: jax.Array,
    condition: jax.Array,
    scale: jax.Array | float = 1.0,
) -> jax.Array:
    """The UNet's output [B,h,w,out_channels], steered by the ControlNet.

    Args:
        timesteps: [B] or one for all.
        condition: uint8 [B,8h,8w,conditioning_channels], or one picture [8h,8w,...] for all.
        others: as in `ControlNet.__call__`.
    """
    count = sample.shape[0]
    timesteps = jnp.broadcast_to(timesteps, (count,))
    pictures = jnp.broadcast_to(condition.astype(jnp.float32) / 255.0, (count, *condition.shape[-3:]))
    down, mid = controlnet(sample, timesteps, text, pictures, scale)
    return unet(sample, timesteps, text, down, mid)


def hint_of(controlnet: ControlNet, condition: jax.Array) -> jax.Array:
    """The features [B,h,w,C0] of condition images uint8 [B,8h,8w,conditioning_channels], alike for all steps."""
    return controlnet.controlnet_cond_embedding(condition.astype(jnp.float32) / 255.0)


def controlnet_from_unet(
    unet: UNet, conditioning_channels: int, rngs: nnx.Rngs, hint_channels: tuple[int, ...] = HINT_CHANNELS
) -> ControlNet:
    """A ControlNet that starts as the UNet's encoder and changes nothing yet: its last layers are zero."""
    shared = {field.name: getattr(unet.config, field.name) for field in dataclasses.fields(EncoderConfig)}
    config = ControlNetConfig(
        **shared,
        conditioning_channels=conditioning_channels,
        conditioning_embedding_out_channels=hint_channels,
    )
    controlnet = ControlNet(config, rngs=rngs, dtype=unet.dtype)
    for part in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
        setattr(controlnet, part, copy_of(getattr(unet, part)))
    return controlnet
