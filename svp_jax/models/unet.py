"""The conditional UNet of Stable Diffusion 1.x and 2.x (UNet2DConditionModel in diffusers)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models import config as reader
from svp_jax.models.attention import SpatialTransformer
from svp_jax.models.layers import Conv, GroupNorm, ResnetBlock, TimeEmbedding, upsample_nearest

CROSS_DOWN, PLAIN_DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"

# What UNet and ControlNet have in common; the defaults are those of the diffusers classes.
ENCODER_DEFAULTS = {
    "in_channels": 4,
    "down_block_types": (CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, PLAIN_DOWN),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "attention_head_dim": 8,
    "use_linear_projection": False,
    "upcast_attention": False,
}
ENCODER_ONLY = {
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "transformer_layers_per_block": (1,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "class_embed_type": (None,),
    "addition_embed_type": (None,),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
}
# These count only together with an `addition_embed_type` or `class_embed_type`, and those are refused.
ENCODER_UNUSED = frozenset(
    {"addition_time_embed_dim", "projection_class_embeddings_input_dim", "addition_embed_type_num_heads"}
)
UNET_ONLY = ENCODER_ONLY | {
    "center_input_sample": (False,),
    "dropout": (0.0,),
    "reverse_transformer_layers_per_block": (None,),
    "dual_cross_attention": (False,),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1.0,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "mid_block_only_cross_attention": (None, False),
    "cross_attention_norm": (None,),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The half that UNet and ControlNet share; `num_heads` per level is the JSON's attention_head_dim."""

    in_channels: int
    block_out_channels: tuple[int, ...]
    down_block_types: tuple[str, ...]
    layers_per_block: int
    num_heads: tuple[int, ...]
    cross_attention_dim: int
    norm_num_groups: int
    norm_eps: float
    use_linear_projection: bool
    upcast_attention: bool

    @property
    def time_channels(self) -> int:
        """Width of the time features."""
        return 4 * self.block_out_channels[0]

    def encoder_json(self) -> dict[str, Any]:
        """The shared keys under diffusers' names."""
        heads = self.num_heads
        return {
            "in_channels": self.in_channels,
            "block_out_channels": list(self.block_out_channels),
            "down_block_types": list(self.down_block_types),
            "layers_per_block": self.layers_per_block,
            "attention_head_dim": heads[0] if len(set(heads)) == 1 else list(heads),
            "cross_attention_dim": self.cross_attention_dim,
            "norm_num_groups": self.norm_num_groups,
            "norm_eps": self.norm_eps,
            "use_linear_projection": self.use_linear_projection,
            "upcast_attention": self.upcast_attention,
        }


def encoder_fields(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Checked keyword arguments of EncoderConfig from values read with ENCODER_DEFAULTS."""
    channels = reader.positive_ints(name, "block_out_channels", values["block_out_channels"])
    levels = len(channels)
    heads = reader.positive_ints(name, "attention_head_dim", values["attention_head_dim"], levels)
    groups = reader.positive_int(name, "norm_num_groups", values["norm_num_groups"])
    for width, count in zip(channels, heads, strict=True):
        if width % groups or width % count:
            raise UserError(
                f"{name} config: block_out_channels {list(channels)} must be multiples of norm_num_groups "
                f"({groups}) and of attention_head_dim, the number of heads ({list(heads)})"
            )
    return {
        "in_channels": reader.positive_int(name, "in_channels", values["in_channels"]),
        "block_out_channels": channels,
        "down_block_types": reader.block_types(
            name, "down_block_types", values["down_block_types"], (CROSS_DOWN, PLAIN_DOWN), levels
        ),
        "layers_per_block": reader.positive_int(name, "layers_per_block", values["layers_per_block"]),
        "num_heads": heads,
        "cross_attention_dim": reader.positive_int(name, "cross_attention_dim", values["cross_attention_dim"]),
        "norm_num_groups": groups,
        "norm_eps": reader.positive_float(name, "norm_eps", values["norm_eps"]),
        "use_linear_projection": bool(values["use_linear_projection"]),
        "upcast_attention": bool(values["upcast_attention"]),
    }


@dataclasses.dataclass(frozen=True)
class UNetConfig(EncoderConfig):
    """Everything that fixes a UNet; `sample_size` (latent pixels) is only a note to users of the model."""

    out_channels: int
    up_block_types: tuple[str, ...]
    sample_size: int | tuple[int, ...] | None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> "UNetConfig":
        """From a UNet2DConditionModel's config.json; UserError names a key that cannot be honoured."""
        name = "UNet2DConditionModel"
        up_types = (PLAIN_UP, CROSS_UP, CROSS_UP, CROSS_UP)
        defaults = ENCODER_DEFAULTS | {"out_channels": 4, "up_block_types": up_types, "sample_size": None}
        values = reader.read_keys(name, json, defaults, UNET_ONLY, ENCODER_UNUSED)
        fields = encoder_fields(name, values)
        levels = len(fields["block_out_channels"])
        return cls(
            **fields,
            out_channels=reader.positive_int(name, "out_channels", values["out_channels"]),
            up_block_types=reader.block_types(
                name, "up_block_types", values["up_block_types"], (CROSS_UP, PLAIN_UP), levels
            ),
            sample_size=values["sample_size"],
        )

    def to_json(self) -> dict[str, Any]:
        """The config.json with which diffusers builds the same network."""
        return {
            "_class_name": "UNet2DConditionModel",
            **self.encoder_json(),
            "out_channels": self.out_channels,
            "up_block_types": list(self.up_block_types),
            "sample_size": list(self.sample_size) if isinstance(self.sample_size, tuple) else self.sample_size,
        }


class DownBlock(nnx.Module):
    """One level of the encoder: resnets, with transformers or without, then halving (not on the last)."""

    def __init__(self, config: EncoderConfig, level: int, channels_in: int, *, dtype, rngs: nnx.Rngs):
        channels = config.block_out_channels[level]
        cross = config.down_block_types[level] == CROSS_DOWN
        widths = [channels_in] + [channels] * (config.layers_per_block - 1)
        self.resnets = nnx.List([resnet(config, width, channels, dtype=dtype, rngs=rngs) for width in widths])
        self.attentions = nnx.List([transformer(config, level, dtype=dtype, rngs=rngs) for _ in widths if cross])
        self.has_downsample = level < len(config.block_out_channels) - 1
        if self.has_downsample:
            self.downsample = Conv(channels, channels, 3, stride=2, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, time: jax.Array, text: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """The level's output and its skips, [B,H,W,C] each, the last one halved."""
        skips = []
        for index, block in enumerate(self.resnets):
            x = block(x, time)
            if self.attentions:
                x = self.attentions[index](x, text)
            skips.append(x)
        if self.has_downsample:
            x = self.downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(nnx.Module):
    """Resnet, transformer, resnet at the lowest resolution."""

    def __init__(self, config: EncoderConfig, *, dtype, rngs: nnx.Rngs):
        channels = config.block_out_channels[-1]
        self.resnets = nnx.List([resnet(config, channels, channels, dtype=dtype, rngs=rngs) for _ in range(2)])
        self.attention = transformer(config, -1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, time: jax.Array, text: jax.Array) -> jax.Array:
        x = self.attention(self.resnets[0](x, time), text)
        return self.resnets[1](x, time)


class UpBlock(nnx.Module):
    """One level of the decoder: resnets over [hidden, skip], with transformers or without, then doubling."""

    def __init__(
        self,
        config: UNetConfig,
        level: int,
        channels_in: int,
        skip_channels: list[int],
        *,
        dtype,
        rngs: nnx.Rngs,
    ):
        """`level` counts as in the encoder (0 = full resolution); `skip_channels` in the order of use."""
        channels = config.block_out_channels[level]
        cross = config.up_block_types[len(config.block_out_channels) - 1 - level] == CROSS_UP
        hidden = [channels_in] + [channels] * (len(skip_channels) - 1)
        widths = [a + b for a, b in zip(hidden, skip_channels, strict=True)]
        self.resnets = nnx.List([resnet(config, width, channels, dtype=dtype, rngs=rngs) for width in widths])
        self.attentions = nnx.List([transformer(config, level, dtype=dtype, rngs=rngs) for _ in widths if cross])
        self.has_upsample = level > 0
        if self.has_upsample:
            self.upsample = Conv(channels, channels, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, skips: list[jax.Array], time: jax.Array, text: jax.Array) -> jax.Array:
        """Uses up as many skips, from the end of the list, as it has resnets."""
        for index, block in enumerate(self.resnets):
            x = block(jnp.concatenate([x, skips.pop()], axis=-1), time)
            if self.attentions:
                x = self.attentions[index](x, text)
        return self.upsample(upsample_nearest(x)) if self.has_upsample else x


def resnet(config: EncoderConfig, channels_in: int, channels_out: int, *, dtype, rngs: nnx.Rngs) -> ResnetBlock:
    """A resnet with time features under the config's normalisation."""
    return ResnetBlock(
        channels_in,
        channels_out,
        groups=config.norm_num_groups,
        epsilon=config.norm_eps,
        time_channels=config.time_channels,
        dtype=dtype,
        rngs=rngs,
    )


def transformer(config: EncoderConfig, level: int, *, dtype, rngs: nnx.Rngs) -> SpatialTransformer:
    """The transformer of one level."""
    return SpatialTransformer(
        config.block_out_channels[level],
        config.cross_attention_dim,
        config.num_heads[level],
        config.norm_num_groups,
        dtype=dtype,
        rngs=rngs,
    )


def down_path(config: EncoderConfig, *, dtype, rngs: nnx.Rngs) -> nnx.List:
    """The encoder's levels, for UNet and ControlNet."""
    widths = (config.block_out_channels[0], *config.block_out_channels[:-1])
    return nnx.List([DownBlock(config, i, width, dtype=dtype, rngs=rngs) for i, width in enumerate(widths)])


def skip_widths(config: EncoderConfig) -> list[int]:
    """Channels of each skip (and each ControlNet residual), in order: conv_in, then every level's."""
    widths = [config.block_out_channels[0]]
    for level, channels in enumerate(config.block_out_channels):
        is_last = level == len(config.block_out_channels) - 1
        widths += [channels] * (config.layers_per_block + (not is_last))
    return widths


def check_sample(config: EncoderConfig, sample: jax.Array) -> None:
    """ValueError where the latent cannot be halved on every level or has other channels."""
    factor = 2 ** (len(config.block_out_channels) - 1)
    if (
        sample.ndim != 4
        or sample.shape[-1] != config.in_channels
        or sample.shape[1] % factor
        or sample.shape[2] % factor
    ):
        raise ValueError(
            f"sample has shape {sample.shape}, allowed is [B,h,w,{config.in_channels}], h and w multiples of {factor}"
        )


class UNet(nnx.Module):
    """Predicts the noise (or velocity) in a latent, from its timestep, text and a ControlNet's residuals."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.config = config
        self.dtype = dtype
        channels = config.block_out_channels
        self.conv_in = Conv(config.in_channels, channels[0], 3, dtype=dtype, rngs=rngs)
        self.time_embedding = TimeEmbedding(channels[0], dtype=dtype, rngs=rngs)
        self.down_blocks = down_path(config, dtype=dtype, rngs=rngs)
        self.mid_block = MidBlock(config, dtype=dtype, rngs=rngs)
        skips = skip_widths(config)
        width = channels[-1]
        self.up_blocks = nnx.List([])
        for level in reversed(range(len(channels))):
            used = [skips.pop() for _ in range(config.layers_per_block + 1)]
            self.up_blocks.append(UpBlock(config, level, width, used, dtype=dtype, rngs=rngs))
            width = channels[level]
        self.conv_norm_out = GroupNorm(width, config.norm_num_groups, config.norm_eps, dtype=dtype)
        self.conv_out = Conv(width, config.out_channels, 3, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        sample: jax.Array,
        timesteps: jax.Array,
        text: jax.Array,
        down_residuals: Sequence[jax.Array] | None = None,
        mid_residual: jax.Array | None = None,
    ) -> jax.Array:
        """The model's output for noisy latents.

        Args:
            sample: scaled latents [B,h,w,in_channels], h and w multiples of 8 (four levels).
            timesteps: [B], 0..999.
            text: features of the text encoder [B,T,cross_attention_dim].
            down_residuals: one addend per skip, as a ControlNet returns them.
            mid_residual: addend to the middle block's output.

        Returns:
            [B,h,w,out_channels] in the compute dtype.
        """
        return self.with_deep_features(sample, timesteps, text, down_residuals, mid_residual)[0]

    def with_deep_features(
        self,
        sample: jax.Array,
        timesteps: jax.Array,
        text: jax.Array,
        down_residuals: Sequence[jax.Array] | None = None,
        mid_residual: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """As `__call__`, and what the coarser levels hand to the finest one [B,h,w,C]."""
        check_sample(self.config, sample)
        time = self.time_embedding(timesteps)
        text = text.astype(self.dtype)

        # 1. encoder
        x = self.conv_in(sample)
        skips = [x]
        for block in self.down_blocks:
            x, new = block(x, time, text)
            skips += new

        # 2. middle
        x = self.mid_block(x, time, text)

        # 3. control
        if down_residuals is not None:
            skips = [skip + residual for skip, residual in zip(skips, down_residuals, strict=True)]
        if mid_residual is not None:
            x = x + mid_residual

        # 4. decoder
        *coarse, finest = self.up_blocks
        for block in coarse:
            x = block(x, skips, time, text)
        return self._output(finest(x, skips, time, text)), x

    def by_deep_features(
        self,
        sample: jax.Array,
        timesteps: jax.Array,
        text: jax.Array,
        deep: jax.Array,
        down_residuals: Sequence[jax.Array],
    ) -> jax.Array:
        """The output where the coarser levels are taken as they were: only the finest one is computed.

        As in DeepCache (Ma et al., arXiv 2312.00858), with its cached branch in the outermost block.

        Args:
            deep: what `with_deep_features` returned, of a timestep close by.
            down_residuals: those of the finest level's skips at least, `finest_skips` of them.
        """
        time = self.time_embedding(timesteps)
        text = text.astype(self.dtype)
        x = self.conv_in(sample)
        _, new = self.down_blocks[0](x, time, text)
        skips = [x, *new][: self.finest_skips]
        skips = [skip + residual for skip, residual in zip(skips, down_residuals, strict=False)]
        return self._output(self.up_blocks[-1](deep, skips, time, text))

    @property
    def finest_skips(self) -> int:
        """How many skips the finest level of the decoder uses: the first ones."""
        return self.config.layers_per_block + 1

    def _output(self, x: jax.Array) -> jax.Array:
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))
