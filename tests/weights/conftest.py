"""Small Stable Diffusions in PyTorch, of the families' proportions, and what their single files hold."""

import numpy as np
import pytest
import torch_reference as reference
from factories import make_tokenizer
from torch_reference import diffusers, torch, transformers

from svp_jax.weights.component import expected_shapes
from svp_jax.weights.folder import open_model
from svp_jax.weights.ldm import places, to_original
from svp_jax.weights.recognise import prefix_of

# Heads, groups and text widths as in the real ones (8 heads or 64 channels each, 32 groups): a single file shows none
# of them.
ENCODER = {"norm_num_groups": 32, "layers_per_block": 2, "sample_size": 64}
UNETS = {
    "sd1": ENCODER | {"block_out_channels": (32, 64, 64, 64), "attention_head_dim": 8, "cross_attention_dim": 64},
    "sd2": ENCODER
    | {
        "block_out_channels": (64, 128, 128, 128),
        "attention_head_dim": (1, 2, 2, 2),
        "cross_attention_dim": 128,
        "use_linear_projection": True,
    },
}
TEXTS = {
    "sd1": reference.TEXT1 | {"vocab_size": 514, "hidden_size": 64, "num_attention_heads": 1},
    "sd2": reference.TEXT2 | {"vocab_size": 514, "hidden_size": 128, "num_attention_heads": 2},
}
TOKENS = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
VAE = reference.VAE | {"block_out_channels": (32, 64, 64, 64), "norm_num_groups": 32}
HINT = {"conditioning_channels": 12, "conditioning_embedding_out_channels": (16, 32, 96, 256)}


@pytest.fixture(scope="session", params=["sd1", "sd2"])
def family(request):
    return request.param


@pytest.fixture(scope="session")
def networks(family):
    """A base's networks and a ControlNet of random parameters, by the names of their folders."""
    torch.manual_seed(4)
    unet = {key: value for key, value in UNETS[family].items() if key != "sample_size"}
    return {
        "unet": reference.randomize(diffusers.UNet2DConditionModel(**UNETS[family])),
        "vae": reference.randomize(diffusers.AutoencoderKL(**VAE)),
        "text_encoder": reference.text_encoder(TEXTS[family] | TOKENS),
        "controlnet": reference.randomize(diffusers.ControlNetModel(**unet, **HINT)),
    }


@pytest.fixture(scope="session")
def base_folder(networks, tmp_path_factory):
    """The folder into which diffusers' pipeline saved the base."""
    folder = tmp_path_factory.mktemp("base")
    pipeline = diffusers.StableDiffusionPipeline(
        **{name: networks[name] for name in ("unet", "vae", "text_encoder")},
        tokenizer=transformers.CLIPTokenizer.from_pretrained(make_tokenizer(folder / "own_tokenizer")),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            set_alpha_to_one=False,
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "base")
    return folder / "base"


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    """A folder with the vocabulary that the tests' text encoders know."""
    return make_tokenizer(tmp_path_factory.mktemp("vocabulary") / "clip_tokenizer")


@pytest.fixture(scope="session")
def original(networks, family, base_folder, tmp_path_factory):
    """What a checkpoint of the original code holds: prefix -> name -> array; the ControlNet's is there too."""
    folder = reference.saved(networks["controlnet"], tmp_path_factory.mktemp("controlnet"))
    found = {}
    for name in networks:
        component = open_model(folder if name == "controlnet" else base_folder / name)
        shapes = expected_shapes(component.model_class, component.config)
        open_clip = name == "text_encoder" and family == "sd2"
        tensors = to_original(
            component.tensors, places(component.model_class, component.config, shapes, open_clip=open_clip)
        )
        found[prefix_of(name, open_clip)] = {key: np.array(tensor.read()) for key, tensor in tensors.items()}
    return found


@pytest.fixture(scope="session")
def checkpoint(original):
    """A whole checkpoint, without the ControlNet: name -> array."""
    return {
        prefix + name: value
        for prefix, tensors in original.items()
        for name, value in tensors.items()
        if prefix != "control_model."
    }
