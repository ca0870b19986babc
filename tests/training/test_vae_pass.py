"""The VAE pass' loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svp_jax.training import vae_pass
from svp_jax.training.vae_pass import BLOCK_WEIGHT, EDGE_WEIGHT, FEATURE_WEIGHT, PIXEL_WEIGHT, vae_loss

LOGVAR = -2.0


class FixedVAE:
    """Latents of mean 1 and a given variance; decodes to one picture plus the mean of the latent."""

    def __init__(self, picture):
        self.picture = jnp.asarray(picture, jnp.float32)

    def encode(self, images):
        mean = jnp.ones((len(images), 2, 2, 4))
        return mean, jnp.full_like(mean, LOGVAR)

    def decode(self, latent):
        return self.picture + latent.mean(axis=(1, 2, 3), keepdims=True)


def test_it_equals_its_formula(monkeypatch):
    # As it is, a millionth of the loss: its sum could be wrong unseen.
    kl_weight = 0.1
    monkeypatch.setattr(vae_pass, "KL_WEIGHT", kl_weight)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    decoded = rng.uniform(-1, 1, image.shape)
    features = rng.random((2, 16, 16)) < 0.1
    keys = jax.random.split(jax.random.key(0), 2)
    result = float(vae_loss({"vae": FixedVAE(decoded)}, {"image": image, "features": features}, keys))

    noise = np.stack([jax.random.normal(key, (2, 2, 4)) for key in keys])
    latent = 1 + np.exp(LOGVAR / 2) * noise
    errors = decoded + latent.mean(axis=(1, 2, 3))[:, None, None, None] - (image / 127.5 - 1)
    pixels = ((1 + (FEATURE_WEIGHT - 1) * features[..., None]) * errors**2).mean()
    edges = np.abs(errors[:, 1:] - errors[:, :-1]).mean() + np.abs(errors[:, :, 1:] - errors[:, :, :-1]).mean()
    blocks = [np.abs(errors[:, y : y + 8, x : x + 8].mean(axis=(1, 2))) for y in (0, 8) for x in (0, 8)]
    kl = 16 * 0.5 * (1 + np.exp(LOGVAR) - 1 - LOGVAR)
    expected = PIXEL_WEIGHT * pixels + EDGE_WEIGHT * edges + BLOCK_WEIGHT * np.mean(blocks) + kl_weight * kl
    assert result == pytest.approx(expected, rel=1e-5)
