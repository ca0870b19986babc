"""The configs of single files: most of a network shows in its tensors' shapes, the rest is its generation's.

Sources of the rest: the YAML files of the original repositories (v1-inference, v2-inference, v2-inference-v), and the
config.json files of stable-diffusion-v1-5 and stable-diffusion-2-1 in diffusers' layout.
"""

import re
from dataclasses import dataclass
from typing import Any

from svp_jax.errors import UserError
from svp_jax.models import ControlNetConfig, TextEncoderConfig, UNetConfig, VAEConfig
from svp_jax.models.unet import EncoderConfig
from svp_jax.weights.tensors import Tensors

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
# What a UNet with another number of input channels is.
_OTHER_INPUTS = {5: "a depth model", 7: "an upscaler", 8: "an InstructPix2Pix model", 9: "an inpainting model"}
_TEXT_HEAD, _HEAD, _GROUPS = 64, 64, 32
_TEXT, _PROJECTION = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", "input_blocks.1.1.proj_in.weight"


@dataclass(frozen=True)
class Family:
    """A generation of Stable Diffusion: 1.x fixes the number of heads, 2.x their width; prompts end in `pad_token`."""

    name: str
    heads: int | None
    hidden_act: str
    pad_token: str


SD1 = Family("Stable Diffusion 1.x", 8, "quick_gelu", "<|endoftext|>")
SD2 = Family("Stable Diffusion 2.x", None, "gelu", "!")


def family_of(encoder: Tensors) -> Family:
    """The family of a UNet or ControlNet, from its tensors under their original names.

    Raises:
        UserError: it lacks what tells the family, or takes more than a plain latent.
    """
    channels = _size(encoder, "input_blocks.0.0.weight", 1)
    if channels != 4:
        what = _OTHER_INPUTS.get(channels, "another kind of model")
        raise UserError(
            f"it is {what}: its UNet takes {channels} channels; only plain text-to-image bases are supported"
        )
    text = _size(encoder, _TEXT, 1)
    # Narrow models have other text features; then it is the projections, 1x1 convolutions in 1.x, that tell.
    return {768: SD1, 1024: SD2}.get(text) or (SD2 if _has_dense_projections(encoder) else SD1)


def _has_dense_projections(encoder: Tensors) -> bool:
    _size(encoder, _PROJECTION, 1)
    return len(encoder[_PROJECTION].shape) == 2


def family_of_config(config: EncoderConfig) -> Family:
    """The family that a UNet or ControlNet of this config is built like."""
    return SD2 if config.use_linear_projection else SD1


def _encoder_json(encoder: Tensors, family: Family) -> dict[str, Any]:
    """What the shapes of a UNet's or ControlNet's encoder say, under diffusers' keys."""
    halvings = _numbers(encoder, r"input_blocks\.(\d+)\.0\.op\.weight")
    layers = halvings[0] - 1 if halvings else 2
    blocks = [(layers + 1) * level + 1 for level in range(len(halvings) + 1)]
    widths = [_size(encoder, f"input_blocks.{block}.0.out_layers.3.weight", 0) for block in blocks]
    cross = [f"input_blocks.{block}.1.proj_in.weight" in encoder for block in blocks]
    return {
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if there else "DownBlock2D" for there in cross],
        "cross_attention_dim": _size(encoder, _TEXT, 1),
        "attention_head_dim": family.heads or [max(width // _HEAD, 1) for width in widths],
        "use_linear_projection": _has_dense_projections(encoder),
        "norm_num_groups": _GROUPS,
    }


def unet_config(unet: Tensors, family: Family, v_prediction: bool) -> UNetConfig:
    """A UNet's config. Of 2.x, the one that predicts velocities was made for 768 pixels and has float32 attention."""
    encoder = _encoder_json(unet, family)
    large = family is SD2 and v_prediction
    ups = ["UpBlock2D" if kind == "DownBlock2D" else "CrossAttnUpBlock2D" for kind in encoder["down_block_types"][::-1]]
    return UNetConfig.from_json(
        encoder | {"up_block_types": ups, "sample_size": 96 if large else 64, "upcast_attention": large}
    )


def controlnet_config(controlnet: Tensors, family: Family) -> ControlNetConfig:
    """A ControlNet's config."""
    hint = _numbers(controlnet, r"input_hint_block\.(\d+)\.weight")
    # The first convolution gives the first width, and every second one after it the next.
    widths = [_size(controlnet, f"input_hint_block.{k}.weight", 0) for k in hint[:-1:2]]
    return ControlNetConfig.from_json(
        _encoder_json(controlnet, family)
        | {
            "conditioning_channels": _size(controlnet, "input_hint_block.0.weight", 1),
            "conditioning_embedding_out_channels": widths,
        }
    )


def vae_config(vae: Tensors) -> VAEConfig:
    """A VAE's config; both families share one."""
    levels = _numbers(vae, r"encoder\.down\.(\d+)\.block\.0\.conv1\.weight")
    return VAEConfig.from_json(
        {
            "block_out_channels": [_size(vae, f"encoder.down.{k}.block.0.conv1.weight", 0) for k in levels],
            "down_block_types": ["DownEncoderBlock2D"] * len(levels),
            "up_block_types": ["UpDecoderBlock2D"] * len(levels),
            "layers_per_block": len(_numbers(vae, r"encoder\.down\.0\.block\.(\d+)\.conv1\.weight")),
            "latent_channels": _size(vae, "post_quant_conv.weight", 0),
            "norm_num_groups": _GROUPS,
            "scaling_factor": 0.18215,
            "sample_size": 512,
        }
    )


def clip_config(text: Tensors, family: Family) -> TextEncoderConfig:
    """The config of a text encoder under transformers' names (1.x)."""
    text = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    layers = _numbers(text, r"encoder\.layers\.(\d+)\.mlp\.fc1\.weight")
    words, positions = (f"embeddings.{kind}_embedding.weight" for kind in ("token", "position"))
    return _text_config(text, words, positions, "encoder.layers.0.mlp.fc1.weight", len(layers), family)


def open_clip_config(text: Tensors, family: Family) -> TextEncoderConfig:
    """The config of OpenCLIP's text encoder (2.x), of those layers whose output is used."""
    layers = _numbers(text, r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight")
    wide = "transformer.resblocks.0.mlp.c_fc.weight"
    return _text_config(text, "token_embedding.weight", "positional_embedding", wide, len(layers), family)


def _text_config(
    text: Tensors, words: str, positions: str, wide: str, layers: int, family: Family
) -> TextEncoderConfig:
    width = _size(text, words, 1)
    return TextEncoderConfig.from_json(
        {
            "vocab_size": _size(text, words, 0),
            "hidden_size": width,
            "intermediate_size": _size(text, wide, 0),
            "num_hidden_layers": layers,
            "num_attention_heads": max(width // _TEXT_HEAD, 1),
            "max_position_embeddings": _size(text, positions, 0),
            "hidden_act": family.hidden_act,
        }
    )


def _size(tensors: Tensors, name: str, axis: int) -> int:
    """One side of a tensor; UserError where there is no such tensor or axis."""
    if name not in tensors:
        raise UserError(f"it has no {name}; it is cut off, or no Stable Diffusion 1.x or 2.x")
    shape = tensors[name].shape
    if len(shape) <= axis:
        raise UserError(f"{name} is {list(shape)}, which no Stable Diffusion 1.x or 2.x has")
    return shape[axis]


def _numbers(tensors: Tensors, pattern: str) -> list[int]:
    """The numbers that stand in the group of `pattern` in the names that match it, sorted."""
    return sorted({int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name))})
