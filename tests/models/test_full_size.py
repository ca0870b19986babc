"""Stable Diffusion's real widths, through the real loader.

Random weights as the reference libraries save them, in float32: largest |difference| over the output's standard
deviation. UNets and ControlNets, gigabytes each, and the larger text encoder are marked slow:
`python -m pytest -m slow tests/models`.
"""

import gc
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
import torch_reference as reference
from flax import nnx
from torch_reference import difference, diffusers, to_torch, torch, transformers

from svp_jax.weights.folder import load_model

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}
SD21 = {
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
    "sample_size": 64,
}
# The one of 768 pixels that predicts velocities.
SD21_V = SD21 | {"upcast_attention": True, "sample_size": 96}
VAE = reference.VAE | {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32, "sample_size": 512}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
LATENT = 16


@pytest.fixture
def folder():
    """Removed at once: one model is 3.5 GB."""
    gc.collect()
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def saved(model, folder):
    """The random model as its library saved it; its sizes are those of the real one, so it goes before ours comes."""
    torch.manual_seed(0)
    return reference.saved(reference.randomize(model), folder)


def ours(folder, method="__call__", **call):
    """The outputs of our network, which is gone afterwards."""
    graph, parameters = nnx.split(load_model(folder))
    run = jax.jit(lambda parameters, call: getattr(nnx.merge(graph, parameters), method)(**call))
    return jax.tree.map(np.asarray, run(parameters, call))


def assert_close(found, expected, record_property):
    figure = max(difference(one, other) for one, other in zip(found, expected, strict=True))
    record_property("difference", figure)
    assert figure <= 1e-4


slow = pytest.mark.slow
BASES = [pytest.param(SD15, id="sd15"), pytest.param(SD21, id="sd21"), pytest.param(SD21_V, id="v")]


def sampled(config):
    rng = np.random.default_rng(1)
    return {
        "sample": rng.standard_normal((2, LATENT, LATENT, 4)).astype(np.float32),
        "timesteps": np.array([1, 981], np.int32),
        "text": rng.standard_normal((2, 77, config["cross_attention_dim"])).astype(np.float32),
    }


@slow
@pytest.mark.parametrize("config", BASES)
def test_unet(config, folder, record_property):
    model = diffusers.UNet2DConditionModel(**config)
    saved(model, folder)
    inputs = sampled(config)
    expected = model(*(to_torch(value) for value in inputs.values())).sample
    del model
    assert_close([ours(folder, **inputs)], [expected], record_property)


@slow
@pytest.mark.parametrize("channels", [3, 12])
@pytest.mark.parametrize("config", BASES)
def test_controlnet(config, channels, folder, record_property):
    shared = {key: value for key, value in config.items() if key != "sample_size"}
    model = diffusers.ControlNetModel(**shared, conditioning_channels=channels)
    saved(model, folder)
    inputs = sampled(config)
    side = 8 * LATENT
    inputs["condition"] = np.random.default_rng(2).uniform(size=(2, side, side, channels)).astype(np.float32)
    down, mid = model(*(to_torch(value) for value in inputs.values()), return_dict=False)
    del model
    residuals, middle = ours(folder, **inputs)
    assert_close([*residuals, middle], [*down, mid], record_property)


def test_vae(folder, record_property):
    model = diffusers.AutoencoderKL(**VAE)
    saved(model, folder)
    rng = np.random.default_rng(3)
    image = rng.uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)
    latent = rng.standard_normal((1, LATENT, LATENT, 4)).astype(np.float32)
    encoded = model.encode(to_torch(image)).latent_dist
    decoded = model.decode(to_torch(latent)).sample
    del model
    mean, logvar = ours(folder, "encode", image=image)
    found = ours(folder, "decode", latent=latent)
    assert_close([mean, logvar, found], [encoded.mean, encoded.logvar, decoded], record_property)


@pytest.mark.parametrize("config", [pytest.param(CLIP_L, id="clip-l"), pytest.param(CLIP_H, id="clip-h", marks=slow)])
def test_text_encoder(config, folder, record_property):
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))
    saved(model, folder)
    ids = np.random.default_rng(4).integers(0, 49406, (2, 77))
    ids[:, 0], ids[:, 60:] = 49406, 49407
    expected = model(torch.from_numpy(ids)).last_hidden_state
    del model
    assert_close([ours(folder, token_ids=ids.astype(np.int32))], [expected], record_property)
