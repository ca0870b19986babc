"""The optional first pass: the VAE learns the person's frames and parsing maps, before latents are cached."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.face.labels import decode, feature_mask
from svp_jax.models.vae import to_model
from svp_jax.training.data.batches import batch_indices
from svp_jax.training.data.loader import ORIGIN
from svp_jax.training.data.views import Views

# Latents are a means here, not a distribution to sample from: just enough to keep them bounded. The weight is
# that of the original autoencoder (latent-diffusion, kl_weight).
KL_WEIGHT = 1e-6
# Squared errors first: absolute ones give up small, strong features such as eyes and teeth (400 steps at rate 1e-3
# on a synthetic person, round trip of held-out frames: 28.2 against 27.6 dB). Besides them L1 of neighbours'
# differences (sharp edges), and of 8 x 8 blocks' means, since colour is learned long after brightness. Our choice.
PIXEL_WEIGHT = 8.0
EDGE_WEIGHT = 0.25
BLOCK_WEIGHT = 1.0
BLOCK = 8
# Of a squared error in eyes, brows and mouth, one hundredth of the picture. It takes 0.35 dB from the whole and more
# than halves the squared error in the eyes (2244 to 975, of 255^2; 400 steps at rate 4e-3, the same person).
FEATURE_WEIGHT = 8.0


@dataclass(frozen=True)
class VAESamples:
    """The training samples of the pass; called with a step and rows it gives these rows of that step's global batch.

    Each view is a sample twice: its parsing map and its frame.
    """

    views: Views
    batch_size: int
    seed: int

    def __call__(self, step: int, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
        """Of b rows in 0 .. batch_size - 1: image uint8 [b, S, S, 3], features bool [b, S, S], and `ORIGIN`."""
        count = len(self.views)
        chosen = batch_indices(self.seed, step, 2 * count, self.batch_size)[rows]
        parsing = self.views.targets("outlines", chosen % count)
        frames = self.views.targets("details", chosen % count)
        return {
            "image": np.where((chosen < count)[:, None, None, None], parsing, frames),
            "features": feature_mask(decode(parsing)),
            ORIGIN: self.views.origins(chosen % count),
        }


def vae_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
    """Squared errors of the pixels, L1 of their differences to the right and lower neighbour and of block means, KL.

    Args:
        batch: image uint8 [b, S, S, 3], features bool [b, S, S] (eyes, brows and mouth, which weigh more).
    """
    images = to_model(batch["image"])
    mean, logvar = models["vae"].encode(images)
    noise = jax.vmap(lambda key, like: jax.random.normal(key, like.shape))(keys, mean)
    errors = models["vae"].decode(mean + jnp.exp(0.5 * logvar) * noise) - images
    edges = jnp.abs(jnp.diff(errors, axis=1)).mean() + jnp.abs(jnp.diff(errors, axis=2)).mean()
    b, h, w, c = errors.shape
    blocks = jnp.abs(errors.reshape(b, h // BLOCK, BLOCK, w // BLOCK, BLOCK, c).mean(axis=(2, 4))).mean()
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar).sum(axis=(1, 2, 3)).mean()
    weight = jnp.where(batch["features"], FEATURE_WEIGHT, 1.0)[..., None]
    pixels = (weight * jnp.square(errors)).mean()
    return PIXEL_WEIGHT * pixels + EDGE_WEIGHT * edges + BLOCK_WEIGHT * blocks + KL_WEIGHT * kl
