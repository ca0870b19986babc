"""The names of the original code (CompVis, Stability, ControlNet) for diffusers' tensors, both ways.

Single files hold these names, each network's under a prefix of its own. Most tensors only change their name; the VAE's
attention lies as 1x1 convolutions there, and OpenCLIP's queries, keys and values as one matrix. The tables are read off
the modules of the original code; diffusers' `convert_diffusers_to_original_stable_diffusion.py` states the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from svp_jax.models import VAE, TextEncoder, UNet, UNetConfig, VAEConfig
from svp_jax.models.controlnet import ControlNetConfig
from svp_jax.models.unet import CROSS_UP, EncoderConfig
from svp_jax.weights.tensors import LazyTensor, Tensors

# Parts of a module: diffusers' name -> the original one, of those that differ.
_RESNET_PARTS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_PARTS = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OPEN_CLIP_PARTS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_OPEN_CLIP_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True)
class Place:
    """Where the original code keeps one of diffusers' tensors.

    `shape` may have axes of length 1 at its end that diffusers' tensor lacks. `third` is 0, 1 or 2 where the tensor is
    one of three that lie as one, stacked on the first axis; `shape` is that of its own part.
    """

    name: str
    shape: tuple[int, ...]
    third: int | None = None


def places(model_class: type, config: Any, shapes: Mapping[str, tuple[int, ...]], open_clip: bool) -> dict[str, Place]:
    """Where each tensor of a network lies in a single file, below the network's prefix: by diffusers' name.

    Args:
        model_class: UNet, ControlNet, VAE or TextEncoder.
        config: the network's config: its numbers of levels and layers make the numbers in the original names.
        shapes: diffusers' names and shapes of all its tensors.
        open_clip: a text encoder is kept as OpenCLIP does (SD 2.x), else as CLIP does (SD 1.x).
    """
    if model_class is TextEncoder:
        one = _open_clip_place if open_clip else Place
        return {name: one(name, shape) for name, shape in shapes.items()}
    if model_class is VAE:
        modules, parts = _vae_modules(config), _VAE_PARTS
    else:
        modules, parts = _encoder_modules(config), _RESNET_PARTS
        modules |= _decoder_modules(config) if model_class is UNet else _control_modules(config)
    found = {}
    for name, shape in shapes.items():
        as_convolution = model_class is VAE and ".attentions." in name and len(shape) == 2
        found[name] = Place(_original(name, modules, parts), (*shape, 1, 1) if as_convolution else shape)
    return found


def _original(name: str, modules: Mapping[str, str], parts: Mapping[str, str]) -> str:
    """The module's original name, then that of the part within it, then `weight` or `bias`."""
    pieces = name.split(".")
    for count in range(len(pieces) - 1, 0, -1):
        module = modules.get(".".join(pieces[:count]))
        if module is not None:
            part = ".".join(pieces[count:-1])
            return ".".join(filter(None, (module, parts.get(part, part), pieces[-1])))
    raise ValueError(f"no module of the original code holds {name}")


def _encoder_modules(config: EncoderConfig) -> dict[str, str]:
    """Time embedding, encoder and middle block, of UNet and ControlNet."""
    modules = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    block = 0
    for level in range(len(config.block_out_channels)):
        for layer in range(config.layers_per_block):
            block += 1
            modules[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{block}.0"
            modules[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{block}.1"
        block += 1
        modules[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{block}.0.op"
    return modules


def _decoder_modules(config: UNetConfig) -> dict[str, str]:
    modules = {"conv_norm_out": "out.0", "conv_out": "out.2"}
    block = -1
    for level, kind in enumerate(config.up_block_types):
        for layer in range(config.layers_per_block + 1):
            block += 1
            modules[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{block}.0"
            modules[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{block}.1"
        # In the block of the level's last resnet, behind its transformer where there is one.
        place = 2 if kind == CROSS_UP else 1
        modules[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{block}.{place}.conv"
    return modules


def _control_modules(config: ControlNetConfig) -> dict[str, str]:
    # Activations stand between the hint encoder's convolutions.
    blocks = 2 * (len(config.conditioning_embedding_out_channels) - 1)
    hint = ["conv_in", *(f"blocks.{block}" for block in range(blocks)), "conv_out"]
    modules = {f"controlnet_cond_embedding.{name}": f"input_hint_block.{2 * k}" for k, name in enumerate(hint)}
    skips = len(config.block_out_channels) * (config.layers_per_block + 1)
    modules |= {f"controlnet_down_blocks.{skip}": f"zero_convs.{skip}.0" for skip in range(skips)}
    return modules | {"controlnet_mid_block": "middle_block_out.0"}


def _vae_modules(config: VAEConfig) -> dict[str, str]:
    levels = len(config.block_out_channels)
    modules = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half, way, more in (("encoder", "down", 0), ("decoder", "up", 1)):
        modules |= {
            f"{half}.conv_in": f"{half}.conv_in",
            f"{half}.mid_block.resnets.0": f"{half}.mid.block_1",
            f"{half}.mid_block.attentions.0": f"{half}.mid.attn_1",
            f"{half}.mid_block.resnets.1": f"{half}.mid.block_2",
            f"{half}.conv_norm_out": f"{half}.norm_out",
            f"{half}.conv_out": f"{half}.conv_out",
        }
        for level in range(levels):
            # The original code counts the decoder's levels from full resolution down, as the encoder's.
            theirs = level if half == "encoder" else levels - 1 - level
            ours, original = f"{half}.{way}_blocks.{level}", f"{half}.{way}.{theirs}"
            for layer in range(config.layers_per_block + more):
                modules[f"{ours}.resnets.{layer}"] = f"{original}.block.{layer}"
            modules[f"{ours}.{way}samplers.0.conv"] = f"{original}.{way}sample.conv"
    return modules


def _open_clip_place(name: str, shape: tuple[int, ...]) -> Place:
    name = name.removeprefix("text_model.")
    fixed = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    if name in fixed:
        return Place(fixed[name], shape)
    _encoder, _layers, layer, *part, last = name.split(".")
    part = ".".join(part)
    block = f"transformer.resblocks.{layer}"
    if part in _OPEN_CLIP_FUSED:
        return Place(f"{block}.attn.in_proj_{last}", shape, _OPEN_CLIP_FUSED.index(part))
    return Place(f"{block}.{_OPEN_CLIP_PARTS[part]}.{last}", shape)


def original_shapes(found: Mapping[str, Place]) -> dict[str, tuple[int, ...]]:
    """The original tensors that these places are in, and their shapes."""
    return {
        place.name: place.shape if place.third is None else (3 * place.shape[0], *place.shape[1:])
        for place in found.values()
    }


def from_original(tensors: Tensors, found: Mapping[str, Place], shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """diffusers' tensors, of these `shapes`, out of the original ones, which must all be there."""

    def taken(place: Place, shape: tuple[int, ...]) -> LazyTensor:
        def change(value: np.ndarray) -> np.ndarray:
            return (value if place.third is None else np.split(value, 3)[place.third]).reshape(shape)

        return tensors[place.name].map(change, shape)

    return {name: taken(place, shapes[name]) for name, place in found.items()}


def to_original(tensors: Tensors, found: Mapping[str, Place]) -> Tensors:
    """The original tensors out of diffusers'."""
    parts: dict[str, list[tuple[LazyTensor, Place]]] = {}
    for name, place in sorted(found.items(), key=lambda item: item[1].third or 0):
        parts.setdefault(place.name, []).append((tensors[name], place))

    def joined(pieces: list[tuple[LazyTensor, Place]]) -> LazyTensor:
        shape = (sum(place.shape[0] for _, place in pieces), *pieces[0][1].shape[1:])

        def read() -> np.ndarray:
            values = [tensor.read().reshape(place.shape) for tensor, place in pieces]
            return values[0] if len(values) == 1 else np.concatenate(values)

        return LazyTensor(shape, pieces[0][0].dtype, read)

    return {name: joined(pieces) for name, pieces in parts.items()}
