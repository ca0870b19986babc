"""The optional first pass: the VAE learns the person's frames and parsing maps, before latents are cached."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.models.vae import to_model
from svp_jax.training.batches import batch_indices

# Latents are a means here, not a distribution to sample from: just enough to keep them bounded. The weight is
# that of the original autoencoder (latent-diffusion, kl_weight).
KL_WEIGHT = 1e-6
# Besides the pixels' own error: that of neighbours' differences (sharp edges), and that of 8 x 8 blocks' means,
# since plain L1 learns brightness long before colour. Our choice.
EDGE_WEIGHT = 0.5
BLOCK_WEIGHT = 2.0
BLOCK = 8


@dataclass(frozen=True)
class VAESamples:
    """Batches of images from one or more readers, which take turns.

    Attributes:
        readers: (numbers) -> uint8 [n, S, S, 3]; the batch is divided over them in order.
        counts: the number of images of each reader.
    """

    readers: tuple[Callable[[np.ndarray], np.ndarray], ...]
    counts: tuple[int, ...]
    batch_size: int
    seed: int

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """image: uint8 [B, S, S, 3]."""
        chosen = batch_indices(self.seed, step, sum(self.counts), self.batch_size)
        starts = np.cumsum([0, *self.counts])
        images = []
        for number in chosen:
            which = int(np.searchsorted(starts, number, side="right")) - 1
            images.append(self.readers[which](np.array([number - starts[which]]))[0])
        return {"image": np.stack(images)}


def vae_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
    """L1 of the pixels, of their differences to the right and lower neighbour and of block means, and a trace of KL."""
    images = to_model(batch["image"])
    mean, logvar = models["vae"].encode(images)
    noise = jax.vmap(lambda key, like: jax.random.normal(key, like.shape))(keys, mean)
    errors = models["vae"].decode(mean + jnp.exp(0.5 * logvar) * noise) - images
    edges = jnp.abs(jnp.diff(errors, axis=1)).mean() + jnp.abs(jnp.diff(errors, axis=2)).mean()
    b, h, w, c = errors.shape
    blocks = jnp.abs(errors.reshape(b, h // BLOCK, BLOCK, w // BLOCK, BLOCK, c).mean(axis=(2, 4))).mean()
    kl = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar).sum(axis=(1, 2, 3)).mean()
    return jnp.abs(errors).mean() + EDGE_WEIGHT * edges + BLOCK_WEIGHT * blocks + KL_WEIGHT * kl
