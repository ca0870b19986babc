"""The original names, against diffusers' own converters of single files."""

import diffusers.loaders.single_file_utils as single_file_utils
import pytest
import torch_reference as reference
from torch_reference import diffusers, torch, transformers

from svp_jax.models import VAE as OurVAE
from svp_jax.models import ControlNet, ControlNetConfig, TextEncoder, TextEncoderConfig, UNet, UNetConfig, VAEConfig
from svp_jax.weights.component import expected_shapes
from svp_jax.weights.ldm import original_shapes, places
from svp_jax.weights.tables import canonical_name

# diffusers' converters look at these keys of a config.
NONE = {"class_embed_type": None, "addition_embed_type": None, "num_class_embeds": None}


def as_torch(tensors, prefix=""):
    return {prefix + name: torch.from_numpy(value) for name, value in tensors.items()}


def assert_same(theirs, module):
    state = module.state_dict()
    assert theirs.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(theirs[name], value), name


def test_unet(networks, original):
    prefix = "model.diffusion_model."
    config = {**networks["unet"].config, **NONE}
    theirs = single_file_utils.convert_ldm_unet_checkpoint(as_torch(original[prefix], prefix), config)
    assert_same(theirs, networks["unet"])


def test_controlnet(networks, original):
    prefix = "control_model."
    config = {**networks["controlnet"].config, **NONE}
    theirs = single_file_utils.convert_controlnet_checkpoint(as_torch(original[prefix], prefix), config)
    assert_same(theirs, networks["controlnet"])


def test_vae(networks, original):
    prefix = "first_stage_model."
    theirs = single_file_utils.convert_ldm_vae_checkpoint(as_torch(original[prefix], prefix), networks["vae"].config)
    assert_same(theirs, networks["vae"])


def test_text_encoder(networks, original, family):
    text = networks["text_encoder"]
    if family == "sd1":
        prefix = "cond_stage_model.transformer."
        theirs = single_file_utils.convert_ldm_clip_checkpoint(as_torch(original[prefix], prefix))
    else:
        prefix = "cond_stage_model.model."
        theirs = single_file_utils.convert_open_clip_checkpoint(text, as_torch(original[prefix], prefix), prefix)
    # Files have the prefix that transformers' live module has lost.
    assert_same({name.removeprefix("text_model."): value for name, value in theirs.items()}, text)


FULL = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
}
VAE = reference.VAE | {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32}


def clip(config):
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))


CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}


@pytest.mark.parametrize(
    ("build", "ours", "config_class", "tensors", "numbers"),
    [
        (lambda: diffusers.UNet2DConditionModel(**FULL["sd1"]), UNet, UNetConfig, 686, 859.52e6),
        (lambda: diffusers.UNet2DConditionModel(**FULL["sd2"]), UNet, UNetConfig, 686, 865.91e6),
        (lambda: diffusers.ControlNetModel(**FULL["sd1"]), ControlNet, ControlNetConfig, 340, 361.28e6),
        (lambda: diffusers.ControlNetModel(**FULL["sd2"]), ControlNet, ControlNetConfig, 340, 364.23e6),
        (lambda: diffusers.AutoencoderKL(**VAE), OurVAE, VAEConfig, 248, 83.65e6),
        (
            lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_L)),
            TextEncoder,
            TextEncoderConfig,
            196,
            None,
        ),
        (
            lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_H)),
            TextEncoder,
            TextEncoderConfig,
            372,
            None,
        ),
    ],
)
def test_full_width_names_and_shapes(build, ours, config_class, tensors, numbers):
    """Of Stable Diffusion 1.5 and 2.1 themselves, without their numbers; counts as published."""
    with torch.device("meta"):
        module = build()
    json = module.config.to_dict() if ours is TextEncoder else dict(module.config)
    config = config_class.from_json(json)
    shapes = expected_shapes(ours, config)
    theirs = {canonical_name(ours, name): tuple(value.shape) for name, value in module.state_dict().items()}
    assert shapes == {name: shape for name, shape in theirs.items() if name is not None}
    assert len(shapes) == tensors
    if numbers:
        assert abs(sum(torch.Size(shape).numel() for shape in shapes.values()) - numbers) < 0.01e6
    # Every tensor has one place of its own.
    for open_clip in (False, True) if ours is TextEncoder else (False,):
        found = places(ours, config, shapes, open_clip=open_clip)
        assert len({(place.name, place.third) for place in found.values()}) == len(shapes)
        count = sum(torch.Size(shape).numel() for shape in original_shapes(found).values())
        assert count == sum(torch.Size(shape).numel() for shape in shapes.values())
