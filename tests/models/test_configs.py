"""Config readers: the classes' own defaults, the published bases' files, refusal of all else."""

import inspect
import json

import pytest

from svp_jax.errors import UserError
from svp_jax.models import ControlNetConfig, TextEncoderConfig, UNetConfig, VAEConfig

SD15_UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}


def test_sd15_unet():
    config = UNetConfig.from_json(SD15_UNET)
    assert config.num_heads == (8, 8, 8, 8) and not config.use_linear_projection
    assert UNetConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_sd21_unet():
    change = {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "dual_cross_attention": False,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "upcast_attention": True,
        "sample_size": 96,
    }
    config = UNetConfig.from_json(SD15_UNET | change)
    assert config.num_heads == (5, 10, 20, 20) and config.use_linear_projection and config.upcast_attention
    assert UNetConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("config_class", "name"),
    [
        (UNetConfig, "UNet2DConditionModel"),
        (ControlNetConfig, "ControlNetModel"),
        (VAEConfig, "AutoencoderKL"),
    ],
)
def test_every_key_and_default_of_the_reference_class_is_known(config_class, name):
    """An empty JSON means the class's defaults, and a JSON that spells all of them out means the same."""
    diffusers = pytest.importorskip("diffusers", reason="its defaults are the reference; install the [dev] extra")
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters.values()
    spelled_out = {p.name: p.default for p in parameters if p.name != "self"}
    spelled_out = json.loads(json.dumps(spelled_out))
    assert config_class.from_json(spelled_out) == config_class.from_json({})
    assert (
        spelled_out.items()
        >= {
            key: value for key, value in config_class.from_json({}).to_json().items() if not key.startswith("_")
        }.items()
    )


def test_every_default_of_the_text_encoder_is_known():
    transformers = pytest.importorskip("transformers")
    content = transformers.CLIPTextConfig().to_dict()
    config = TextEncoderConfig.from_json(content)
    assert config == TextEncoderConfig.from_json({})
    assert content.items() >= {k: v for k, v in config.to_json().items() if k != "architectures"}.items()


@pytest.mark.parametrize(
    ("config_class", "change", "named"),
    [
        (UNetConfig, {"act_fn": "gelu"}, "act_fn"),
        (UNetConfig, {"transformer_layers_per_block": [1, 2, 10, 10]}, "transformer_layers_per_block"),
        (UNetConfig, {"only_cross_attention": True}, "only_cross_attention"),
        (UNetConfig, {"num_attention_heads": 8}, "num_attention_heads"),
        (UNetConfig, {"addition_embed_type": "text_time"}, "addition_embed_type"),
        (UNetConfig, {"mid_block_type": None}, "mid_block_type"),
        (UNetConfig, {"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        (UNetConfig, {"dual_cross_attention": True}, "dual_cross_attention"),
        (UNetConfig, {"down_block_types": ["DownBlock2D"] * 3}, "down_block_types"),
        (UNetConfig, {"up_block_types": ["AttnUpBlock2D"] * 4}, "up_block_types"),
        (UNetConfig, {"layers_per_block": [2, 2, 2, 2]}, "layers_per_block"),
        (UNetConfig, {"attention_head_dim": [5, 10]}, "attention_head_dim"),
        (UNetConfig, {"attention_head_dim": 7}, "attention_head_dim"),
        (UNetConfig, {"norm_num_groups": 48}, "norm_num_groups"),
        (UNetConfig, {"norm_eps": "small"}, "norm_eps"),
        (UNetConfig, {"block_out_channels": 320}, "block_out_channels"),
        (UNetConfig, {"new_thing": 3}, "new_thing"),
        (
            ControlNetConfig,
            {"controlnet_conditioning_channel_order": "bgr"},
            "controlnet_conditioning_channel_order",
        ),
        (
            ControlNetConfig,
            {"conditioning_embedding_out_channels": None},
            "conditioning_embedding_out_channels",
        ),
        (VAEConfig, {"use_quant_conv": False}, "use_quant_conv"),
        (VAEConfig, {"shift_factor": 0.1}, "shift_factor"),
        (VAEConfig, {"block_out_channels": [64, 64]}, "down_block_types"),
        (VAEConfig, {"norm_num_groups": 48}, "norm_num_groups"),
        (VAEConfig, {"scaling_factor": 0}, "scaling_factor"),
        (TextEncoderConfig, {"hidden_act": "gelu_new"}, "hidden_act"),
        (TextEncoderConfig, {"model_type": "clip"}, "model_type"),
        (TextEncoderConfig, {"num_attention_heads": 5}, "num_attention_heads"),
        (TextEncoderConfig, {"num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_key(config_class, change, named):
    with pytest.raises(UserError, match=named):
        config_class.from_json(change)
