"""The VAE against diffusers, piece by piece and whole, through the real loader."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference as reference
from flax import nnx
from torch_reference import difference, to_numpy, to_torch

import svp_jax
from svp_jax.models.layers import upsample_nearest
from svp_jax.models.vae import LOGVAR_RANGE

MODULE_LIMIT, NETWORK_LIMIT = 2e-5, 1e-4

MODULES = {
    "encoder.down_blocks.0.resnets.0": lambda vae, x: vae.encoder.down_blocks[0].resnets[0](x),
    "encoder.down_blocks.1.resnets.0": lambda vae, x: vae.encoder.down_blocks[1].resnets[0](x),
    "encoder.down_blocks.0.downsamplers.0": lambda vae, x: vae.encoder.down_blocks[0].downsample(x),
    "encoder.mid_block.attentions.0": lambda vae, x: vae.encoder.mid_block.attention(x),
    "decoder.mid_block": lambda vae, x: vae.decoder.mid_block(x),
    "decoder.up_blocks.1.upsamplers.0": lambda vae, x: vae.decoder.up_blocks[1].upsample(upsample_nearest(x)),
    "decoder.up_blocks.3.resnets.0": lambda vae, x: vae.decoder.up_blocks[3].resnets[0](x),
    "decoder.conv_norm_out": lambda vae, x: vae.decoder.conv_norm_out(x),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    torch_vae = reference.vae()
    return torch_vae, svp_jax.load_model(reference.saved(torch_vae, tmp_path_factory.mktemp("vae")))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(-1, 1, (2, 64, 48, 3)).astype(np.float32)


def test_every_module(pair, image, record_property):
    torch_vae, vae = pair
    calls = reference.record_calls(torch_vae, list(MODULES))
    torch_vae.decode(torch_vae.encode(to_torch(image)).latent_dist.mean)
    figures = {}
    for name, call in MODULES.items():
        args, _, output = calls[name]
        figures[name] = difference(nnx.jit(call)(vae, jnp.asarray(to_numpy(args[0]))), output)
    record_property("differences", figures)
    assert max(figures.values()) <= MODULE_LIMIT, figures


def test_encode_gives_mean_and_logvar_unscaled(pair, image, record_property):
    torch_vae, vae = pair
    posterior = torch_vae.encode(to_torch(image)).latent_dist
    mean, logvar = nnx.jit(lambda vae, x: vae.encode(x))(vae, image)
    figures = [difference(mean, posterior.mean), difference(logvar, posterior.logvar)]
    record_property("differences", figures)
    assert max(figures) <= NETWORK_LIMIT, figures


def test_decode(pair, record_property):
    torch_vae, vae = pair
    latent = np.random.default_rng(1).standard_normal((2, 8, 6, 4), np.float32)
    figure = difference(nnx.jit(lambda vae, x: vae.decode(x))(vae, latent), torch_vae.decode(to_torch(latent)).sample)
    record_property("difference", figure)
    assert figure <= NETWORK_LIMIT


def test_logvar_is_clamped(pair, image):
    _, vae = pair
    graphdef, state = nnx.split(vae)
    far = nnx.merge(graphdef, state)
    far.quant_conv.bias[...] = jnp.array([0, 0, 0, 0, 1e3, -1e3, 1e3, -1e3], jnp.float32)
    _, logvar = far.encode(image)
    assert np.unique(logvar[..., ::2]) == LOGVAR_RANGE[1] and np.unique(logvar[..., 1::2]) == LOGVAR_RANGE[0]


def test_image_size_must_fit(pair):
    with pytest.raises(ValueError, match=r"\(1, 60, 64, 3\).*multiples of 8"):
        pair[1].encode(jnp.zeros((1, 60, 64, 3)))
