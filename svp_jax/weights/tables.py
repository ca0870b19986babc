"""How each parameter is called and laid out on disk: data tables between Flax paths and diffusers' names.

A parameter's path in memory is its attribute names joined by dots, `down_blocks.0.resnets.1.conv1.kernel`.
Two tables make the name on disk from it: one for the last part, which also says how the tensor is laid out,
and one for the modules. A third table maps the other names that published files use for the same tensors.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable

import numpy as np

from svp_jax.models import VAE, ControlNet, TextEncoder, UNet


@dataclasses.dataclass(frozen=True)
class Layout:
    """A tensor's way from disk (PyTorch's order of axes) to memory and back."""

    to_memory: Callable[[np.ndarray], np.ndarray]
    to_disk: Callable[[np.ndarray], np.ndarray]

    def disk_shape(self, memory_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape on disk of a tensor with `memory_shape`."""
        return self.to_disk(np.broadcast_to(np.float32(0), memory_shape)).shape


SAME = Layout(lambda x: x, lambda x: x)
DENSE = Layout(lambda x: x.T, lambda x: x.T)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # OIHW <-> HWIO
DENSE_AS_CONV = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])  # O,I,1,1 <-> I,O


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One parameter: where it is in memory, and its layout and shape on disk."""

    path: tuple
    layout: Layout
    shape: tuple[int, ...]


# Last parts: path (all of it) -> name, layout. Exactly one row must match a path.
_CONV_NAMES = (
    r"conv_in|conv_out|conv\d|conv_shortcut|downsample|upsample|quant_conv|post_quant_conv"
    r"|controlnet_cond_embedding\.blocks\.\d+|controlnet_down_blocks\.\d+|controlnet_mid_block"
)
_DENSE_NAMES = r"linear_\d|time_emb_proj|to_q|to_k|to_v|to_out|ff_in|ff_out|[qkv]_proj|out_proj|fc\d"
_LEAVES = (
    (r"(.+)\.bias", r"\1.bias", SAME),
    (
        r"((?:.+\.)?(?:norm\d?|group_norm|conv_norm_out|layer_norm\d|final_layer_norm))\.scale",
        r"\1.weight",
        SAME,
    ),
    (r"(token_embedding|position_embedding)\.embedding", r"\1.weight", SAME),
    (rf"((?:.+\.)?(?:{_CONV_NAMES}))\.kernel", r"\1.weight", CONV),
    (rf"((?:.+\.)?(?:{_DENSE_NAMES}))\.kernel", r"\1.weight", DENSE),
)
# The transformers' projections lie on disk as the config says: dense in SD 2.x, 1x1 convolutions in SD 1.x.
_PROJECTION = r"(.+\.(?:proj_in|proj_out))\.kernel"

# Modules: every row is applied, in this order, to the whole name.
_DIFFUSERS_MODULES = (
    (r"\.downsample\.", r".downsamplers.0.conv."),
    (r"\.upsample\.", r".upsamplers.0.conv."),
    (r"mid_block\.attention\.", r"mid_block.attentions.0."),
    (r"\.block\.", r".transformer_blocks.0."),
    (r"\.ff_in\.", r".ff.net.0.proj."),
    (r"\.ff_out\.", r".ff.net.2."),
    (r"\.to_out\.", r".to_out.0."),
)
_TEXT_MODULES = (
    (r"^(token|position)_embedding\.", r"embeddings.\1_embedding."),
    (r"^layers\.(\d+)\.(q_proj|k_proj|v_proj|out_proj)\.", r"encoder.layers.\1.self_attn.\2."),
    (r"^layers\.(\d+)\.(fc\d)\.", r"encoder.layers.\1.mlp.\2."),
    (r"^layers\.", r"encoder.layers."),
    (r"^", r"text_model."),
)

# Other names of the same tensors in published files; None: the tensor has no meaning and is passed over.
_VAE_ALIASES = (
    (r"(.+\.attentions\.0)\.query\.(\w+)", r"\1.to_q.\2"),
    (r"(.+\.attentions\.0)\.key\.(\w+)", r"\1.to_k.\2"),
    (r"(.+\.attentions\.0)\.value\.(\w+)", r"\1.to_v.\2"),
    (r"(.+\.attentions\.0)\.proj_attn\.(\w+)", r"\1.to_out.0.\2"),
)
_TEXT_ALIASES = (
    (r"(text_model\.)?embeddings\.position_ids", None),
    (r"((?:embeddings|encoder|final_layer_norm)\..+)", r"text_model.\1"),
)
_MODULES = {
    UNet: _DIFFUSERS_MODULES,
    ControlNet: _DIFFUSERS_MODULES,
    VAE: _DIFFUSERS_MODULES,
    TextEncoder: _TEXT_MODULES,
}
_ALIASES = {UNet: (), ControlNet: (), VAE: _VAE_ALIASES, TextEncoder: _TEXT_ALIASES}


def tensors_on_disk(
    model_class: type, config, paths_and_shapes: Iterable[tuple[tuple, tuple]]
) -> dict[str, TensorSpec]:
    """Every tensor that a file of this model must hold: name on disk -> where it belongs.

    Args:
        model_class: UNet, ControlNet, VAE or TextEncoder.
        config: the model's config.
        paths_and_shapes: (path, shape in memory) of each parameter.
    """
    leaves = _LEAVES
    if model_class in (UNet, ControlNet):
        leaves += ((_PROJECTION, r"\1.weight", DENSE if config.use_linear_projection else DENSE_AS_CONV),)
    tensors = {}
    for path, shape in paths_and_shapes:
        name, layout = _name_and_layout(".".join(map(str, path)), leaves, _MODULES[model_class])
        if name in tensors:
            raise ValueError(f"two parameters are called {name} on disk: {path} and {tensors[name].path}")
        tensors[name] = TensorSpec(path, layout, layout.disk_shape(shape))
    return tensors


def canonical_name(model_class: type, name: str) -> str | None:
    """The name under which a tensor in a published file is known here; None where it is to be passed over."""
    for pattern, template in _ALIASES[model_class]:
        match = re.fullmatch(pattern, name)
        if match:
            return template if template is None else match.expand(template)
    return name


def _name_and_layout(path: str, leaves: tuple, modules: tuple) -> tuple[str, Layout]:
    found = [
        (match.expand(template), layout)
        for pattern, template, layout in leaves
        if (match := re.fullmatch(pattern, path))
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} table rows match parameter {path}, exactly one must")
    name, layout = found[0]
    for pattern, replacement in modules:
        name = re.sub(pattern, replacement, name)
    return name, layout
