"""The text encoder against transformers, a layer and whole, through the real loader."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference as reference
from flax import nnx
from torch_reference import difference, to_numpy, to_torch

import svp_jax

MODULE_LIMIT, NETWORK_LIMIT = 2e-5, 1e-4


@pytest.fixture(scope="module", params=[reference.TEXT1, reference.TEXT2], ids=["sd1", "sd2"])
def pair(request, tmp_path_factory):
    torch_model = reference.text_encoder(request.param)
    return torch_model, svp_jax.load_model(reference.saved(torch_model, tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(0, 300, (2, 77))


def test_layer(pair, ids, record_property):
    torch_model, model = pair
    calls = reference.record_calls(torch_model, ["encoder.layers.1"])
    torch_model(to_torch(ids))
    args, _, output = calls["encoder.layers.1"]
    figure = difference(nnx.jit(lambda m, x: m.layers[1](x))(model, jnp.asarray(to_numpy(args[0]))), output)
    record_property("difference", figure)
    assert figure <= MODULE_LIMIT


def test_whole(pair, ids, record_property):
    torch_model, model = pair
    theirs = torch_model(to_torch(ids)).last_hidden_state
    figure = difference(nnx.jit(lambda m, x: m(x))(model, ids), theirs)
    record_property("difference", figure)
    assert figure <= NETWORK_LIMIT


def test_later_tokens_do_not_change_earlier_features(pair, ids):
    changed = ids.copy()
    changed[:, 40:] = (changed[:, 40:] + 1) % 300
    before, after = pair[1](jnp.asarray(ids)), pair[1](jnp.asarray(changed))
    np.testing.assert_allclose(before[:, :40], after[:, :40], atol=1e-5)
    assert np.abs(before[:, 40:] - after[:, 40:]).max() > 0.1


def test_too_many_tokens(pair):
    with pytest.raises(ValueError, match="78 tokens, allowed are 77"):
        pair[1](jnp.zeros((1, 78), int))
