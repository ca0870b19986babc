"""What a ControlNet starts from."""

import shutil

import jax
import numpy as np
import pytest
from factories import random_model
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models import ControlNet, ControlNetConfig
from svp_jax.training.first_controlnet import first_controlnet
from svp_jax.weights.base import load_base
from svp_jax.weights.folder import save_model

SAMPLE = np.random.default_rng(0).standard_normal((1, 8, 8, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def base(base_folder):
    return load_base(base_folder)


def make(base, channels: int) -> ControlNet:
    changes = {"conditioning_channels": channels, "conditioning_embedding_out_channels": [8, 8, 8, 8]}
    config = ControlNetConfig.from_json(base.unet.config.encoder_json() | changes)
    return random_model(ControlNet, config, np.random.default_rng(3))


def output(controlnet: ControlNet, condition: np.ndarray) -> np.ndarray:
    text = np.zeros((1, 77, controlnet.config.cross_attention_dim), np.float32)
    return np.asarray(controlnet(SAMPLE, np.array([500]), text, condition)[1])


def same(model: nnx.Module, other: nnx.Module) -> bool:
    leaves = [jax.tree.leaves(nnx.state(each)) for each in (model, other)]
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


def test_the_controlnet_of_the_base(base_folder, tmp_path):
    folder = shutil.copytree(base_folder, tmp_path / "base")
    save_model(make(load_base(folder), 9), folder / "controlnet")
    base = load_base(folder)
    first = first_controlnet(base, "", "details", 9, seed=0)
    assert same(first, base.controlnet)
    # A copy: a training step donates what it is given.
    jax.tree.map(lambda leaf: leaf.delete(), nnx.state(first))
    assert np.isfinite(base.controlnet.conv_in.bias[...]).all()
    with pytest.warns(UserWarning, match="reads 9 condition channels, this avatar has 6.*from the unet's encoder"):
        other = first_controlnet(base, "", "details", 6, seed=0)
    assert same(other.conv_in, base.unet.conv_in)


def test_a_given_one_of_as_many_channels_is_taken_as_it_is(base, tmp_path):
    given = make(base, 9)
    save_model(given, tmp_path / "given")
    assert same(first_controlnet(base, str(tmp_path / "given"), "details", 9, seed=0), given)


@pytest.mark.parametrize(("stage", "where"), [("outlines", slice(6, 9)), ("details", slice(0, 3))])
def test_a_given_one_of_a_picture_sees_that_picture_alone(base, tmp_path, stage, where):
    given = make(base, 3)
    save_model(given, tmp_path / "given")
    first = first_controlnet(base, str(tmp_path / "given"), stage, 9, seed=0)
    assert first.config.conditioning_channels == 9
    condition = np.random.default_rng(1).random((1, 64, 64, 9)).astype(np.float32)
    # Sums of other lengths.
    np.testing.assert_allclose(output(first, condition), output(given, condition[..., where]), atol=1e-5)
    condition[..., where] = 0
    assert not np.allclose(output(first, condition), output(given, np.ones((1, 64, 64, 3), np.float32)), atol=1e-3)


def test_what_does_not_fit(base, base_folder, tmp_path):
    save_model(make(base, 6), tmp_path / "six")
    for given, words in (
        (tmp_path / "none", "no such folder or file"),
        (base_folder / "unet", "holds no ControlNet"),
        (tmp_path / "six", "reads 6 condition channels; allowed are 3 .* and this stage's 9"),
    ):
        with pytest.raises(UserError, match=words):
            first_controlnet(base, str(given), "details", 9, seed=0)
