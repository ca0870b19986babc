"""What lies in a single file: which networks, under which names, told from the names of its tensors."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from svp_jax.errors import UserError
from svp_jax.weights.tensors import Tensors

# Of a part's names, without its prefix: those of the original code, OpenCLIP's, or diffusers' and transformers'.
Naming = Literal["original", "open_clip", "diffusers"]
# Prefix in a file -> network, naming. CLIP's names are transformers' own.
PREFIXES: dict[str, tuple[str, Naming]] = {
    "model.diffusion_model.": ("unet", "original"),
    "first_stage_model.": ("vae", "original"),
    "cond_stage_model.transformer.": ("text_encoder", "diffusers"),
    "cond_stage_model.model.": ("text_encoder", "open_clip"),
    "control_model.": ("controlnet", "original"),
}
# A tensor that tells a file of one network without a prefix.
_BARE: dict[str, tuple[str, Naming]] = {
    "input_hint_block.0.weight": ("controlnet", "original"),
    "controlnet_cond_embedding.conv_in.weight": ("controlnet", "diffusers"),
    "encoder.down.0.block.0.conv1.weight": ("vae", "original"),
    "encoder.down_blocks.0.resnets.0.conv1.weight": ("vae", "diffusers"),
    "output_blocks.0.0.in_layers.0.weight": ("unet", "original"),
    "up_blocks.0.resnets.0.conv1.weight": ("unet", "diffusers"),
}
# Left over from training, or of no effect: the noise schedule, the VAE's discriminator, markers, the text encoder's
# buffers, OpenCLIP's last layer (the second to last is read) and its projection to the space of images.
_UNUSED = re.compile(
    r"betas|alphas_cumprod(_prev)?|sqrt_(one_minus_)?alphas_cumprod|log_one_minus_alphas_cumprod"
    r"|sqrt_recip(m1)?_alphas_cumprod|posterior_(variance|log_variance_clipped|mean_coef[12])|logvar|lvlb_weights"
    r"|global_step|v_pred|ztsnr|model_ema\..+|(first_stage_model\.)?(loss|model_ema)\..+"
    r"|embedding_manager\..+|scale_factor|denoiser\.sigmas"
    r"|cond_stage_model\.(transformer\.)?(logit_scale|text_projection(\.weight)?)"
    r"|cond_stage_model\.transformer\.(text_model\.)?embeddings\.position_ids"
    r"|cond_stage_model\.model\.(transformer\.resblocks\.23\..+|text_projection|logit_scale|attn_mask)"
)
# What else people have on disk: a pattern of one of its names -> what it is. The first that matches says it.
_OTHERS = (
    (
        r".*(lora[._](up|down|unet|te|A|B|controlnet)|\.hada_w|\.lokr_w|\.alpha$).*",
        "a LoRA, no model",
    ),
    (r"(model\.diffusion_model\.)?joint_blocks\..+", "Stable Diffusion 3"),
    (r"(model\.diffusion_model\.)?double_blocks\..+", "FLUX"),
    (r".*motion_modules\..+", "a motion module of AnimateDiff"),
    (r".*\.(time_stack|temporal_transformer)\..+", "a video model"),
    (r"(single_)?transformer_blocks\.\d+\..+", "a diffusion transformer such as FLUX or Stable Diffusion 3"),
    (r"conditioner\.embedders\..+|add_embedding\..+", "Stable Diffusion XL, or a part of it"),
    (r"(.+\.)?label_emb\..+", "an SDXL, unCLIP or upscaling model"),
    (r"(adapter\.)?body\.\d+\..+", "a T2I-Adapter"),
    (r"emb_params|string_to_param.*|clip_[lg]", "a textual inversion embedding"),
    (r"ip_adapter\..+|image_proj\..+", "an IP-Adapter"),
    (r"(model\.)?layers\.\d+\..+|(transformer\.)?h\.\d+\..+|(lm_head|wte|bert)\..+", "a text model"),
    (r"(transformer\.)?text_model\..+", "a text encoder alone"),
)


@dataclass(frozen=True)
class Part:
    """The tensors of one network, without its prefix."""

    naming: Naming
    tensors: Tensors


def parts_of(tensors: Tensors, path: Path) -> dict[str, Part]:
    """The networks in a file, by the name of their folder in diffusers' layout: unet, vae, text_encoder, controlnet.

    Raises:
        UserError: a file of something else (it says what), or tensors that belong to no network.
    """
    for pattern, what in _OTHERS:
        match = next((name for name in tensors if re.fullmatch(pattern, name)), None)
        if match:
            raise UserError(f"{path} is {what} (it holds {match}); supported are Stable Diffusion 1.x and 2.x")
    own = {name: tensor for name, tensor in tensors.items() if not _UNUSED.fullmatch(name)}
    for tell, (network, naming) in _BARE.items():
        if tell in own:
            return {network: Part(naming, own)}
    found: dict[str, Part] = {}
    for name in sorted(own):
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            continue
        network, naming = PREFIXES[prefix]
        part = found.setdefault(network, Part(naming, {}))
        if part.naming != naming:
            raise UserError(f"{path} holds two text encoders, CLIP's and OpenCLIP's; give a file with one")
        part.tensors[name.removeprefix(prefix)] = own.pop(name)
    if not found:
        raise UserError(
            f"{path} is no Stable Diffusion, VAE or ControlNet; it begins with {', '.join(sorted(own)[:3])}"
        )
    if own:
        raise UserError(f"{path} holds tensors that belong to no network: {', '.join(sorted(own))}")
    return found


def prefix_of(network: str, open_clip: bool) -> str:
    """The prefix of a network's tensors in a whole checkpoint; `open_clip` tells the two text encoders apart."""
    naming = "open_clip" if open_clip else "diffusers" if network == "text_encoder" else "original"
    return next(prefix for prefix, kind in PREFIXES.items() if kind == (network, naming))


def averaged(unet: Tensors, tensors: Tensors) -> dict[str, object]:
    """The running averages (EMA) of a UNet's tensors, by their own names; those that the file lacks are left out.

    The training code keeps them under names without dots: model_ema.diffusion_modelinput_blocks00weight.
    """
    names = {name: "model_ema." + f"diffusion_model.{name}".replace(".", "") for name in unet}
    return {name: tensors[average] for name, average in names.items() if average in tensors}
