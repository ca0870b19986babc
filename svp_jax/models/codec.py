"""Pictures through a VAE and back, in batches of one shape, so that little is compiled and memory is bounded."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.models.vae import VAE, to_model, to_uint8

BATCH = 8


def encode_images(
    vae: VAE, read: Callable[[np.ndarray], np.ndarray], indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the posterior, unscaled, float32 [n, h, w, c] each.

    Args:
        read: (indices) -> uint8 [n, H, W, 3].
        indices: int [n], which images.
    """
    graph, parameters = nnx.split(vae)
    means, stds = [], []
    for start in range(0, len(indices), BATCH):
        part = indices[start : start + BATCH]
        # The last batch is filled up, so that one shape is compiled.
        full = np.pad(part, (0, BATCH - len(part)), mode="edge")
        mean, std = _encode(graph, parameters, read(full))
        means.append(np.asarray(mean[: len(part)], np.float32))
        stds.append(np.asarray(std[: len(part)], np.float32))
    return np.concatenate(means), np.concatenate(stds)


def decode_images(vae: VAE, latents: np.ndarray) -> np.ndarray:
    """Images uint8 [n, 8h, 8w, 3] of unscaled latents [n, h, w, c]."""
    graph, parameters = nnx.split(vae)
    images = []
    for start in range(0, len(latents), BATCH):
        part = latents[start : start + BATCH]
        full = np.pad(part, ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)), mode="edge")
        images.append(np.asarray(_decode(graph, parameters, full))[: len(part)])
    return np.concatenate(images)


def round_trips(vae: VAE, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields each image uint8 [H, W, 3] encoded (to the posterior's mean) and decoded again."""
    images = iter(images)
    while batch := list(itertools.islice(images, BATCH)):
        yield from decode_images(vae, encode_images(vae, np.stack(batch).__getitem__, np.arange(len(batch)))[0])


@partial(jax.jit, static_argnames="graph")
def _encode(graph: nnx.GraphDef, parameters: nnx.State, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, logvar = nnx.merge(graph, parameters).encode(to_model(images))
    return mean, jnp.exp(0.5 * logvar)


@partial(jax.jit, static_argnames="graph")
def _decode(graph: nnx.GraphDef, parameters: nnx.State, latents: jax.Array) -> jax.Array:
    return to_uint8(nnx.merge(graph, parameters).decode(latents))
