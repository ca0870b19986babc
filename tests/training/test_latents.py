"""Latents on disk: reused while what made them is the same, made again when not."""

import jax
import numpy as np
import pytest
from factories import VAE_SETTINGS, random_model

from svp_jax.errors import UserError
from svp_jax.models import VAE, VAEConfig
from svp_jax.models.codec import decode_images, encode_images
from svp_jax.training import latents
from svp_jax.training.latents import cached_latents


@pytest.fixture(scope="module")
def vae():
    return random_model(VAE, VAEConfig.from_json(VAE_SETTINGS), np.random.default_rng(0))


class Reader:
    """Random images 64 x 64, and how often they were asked for."""

    def __init__(self, count: int = 10):
        self.images = np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), np.uint8)
        self.calls = 0

    def __call__(self, indices):
        self.calls += 1
        return self.images[indices]


def test_batches_are_filled_up_without_a_trace(vae):
    reader = Reader()
    mean, std = encode_images(vae, reader, np.arange(10))
    assert mean.shape == std.shape == (10, 8, 8, 4)
    assert mean.dtype == std.dtype == np.float32
    assert (std > 0).all()
    direct, logvar = vae.encode(reader.images[9:] / np.float32(127.5) - 1)
    np.testing.assert_allclose(mean[9:], direct, atol=1e-5)
    np.testing.assert_allclose(std[9:], np.exp(logvar / 2), atol=1e-5)
    decoded = decode_images(vae, mean)
    assert decoded.shape == (10, 64, 64, 3)
    assert decoded.dtype == np.uint8
    expected = np.clip((np.asarray(vae.decode(mean[9:])) + 1) * 127.5, 0, 255)
    # Half a level of rounding, and what float32 does at its edge.
    assert np.abs(decoded[9:] - expected).max() <= 0.501


def test_the_cache_is_reused(vae, tmp_path):
    reader, path = Reader(), tmp_path / "latents.npz"
    first = cached_latents(path, vae, "source", reader, np.arange(4))
    assert reader.calls == 1
    for one, other in zip(cached_latents(path, vae, "source", reader, np.arange(4)), first, strict=True):
        np.testing.assert_array_equal(one, other)
    assert reader.calls == 1
    assert [path.name for path in tmp_path.iterdir()] == ["latents.npz"]


def test_the_cache_is_made_again_for_anything_else(vae, tmp_path):
    reader, path = Reader(), tmp_path / "latents.npz"
    cached_latents(path, vae, "source", reader, np.arange(4))
    cached_latents(path, vae, "another source", reader, np.arange(4))
    assert reader.calls == 2
    mean, _ = cached_latents(path, vae, "another source", reader, np.arange(1, 5))
    assert reader.calls == 3
    tuned = jax.tree.map(lambda x: x, vae)
    tuned.encoder.conv_in.bias[...] += 0.1
    other, _ = cached_latents(path, tuned, "another source", reader, np.arange(1, 5))
    assert reader.calls == 4
    assert np.abs(mean - other).max() > 1e-3


def test_a_full_disk(vae, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(latents.np, "savez", full)
    with pytest.raises(UserError, match=r"latents\.npz: cannot write the latents \(No space left on device\)"):
        cached_latents(tmp_path / "latents.npz", vae, "source", Reader(), np.arange(2))
    assert list(tmp_path.iterdir()) == []
