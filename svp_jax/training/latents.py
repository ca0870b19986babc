"""Latents of the training images, computed once and kept on disk with a hash of what made them."""

import hashlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models.vae import VAE

BATCH = 8


@partial(jax.jit, static_argnames="graph")
def _encode(graph: nnx.GraphDef, parameters, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    vae = nnx.merge(graph, parameters)
    mean, logvar = vae.encode(images.astype(jnp.float32) / 127.5 - 1.0)
    return mean, jnp.exp(0.5 * logvar)


def encode_images(vae: VAE, read, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def cached_latents(
    path: Path, vae: VAE, source_hash: str, read, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `encode_images`, read from `path` (.npz) where it was made from the same VAE, source and indices."""
    made_from = _hash(vae, source_hash, indices)
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["made_from"]) == made_from:
                return stored["mean"], stored["std"]
    mean, std = encode_images(vae, read, indices)
    beside = path.with_suffix(".tmp.npz")
    try:
        np.savez(beside, mean=mean, std=std, made_from=made_from)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot write the latents ({error.strerror}); free space") from None
    beside.replace(path)
    return mean, std


def _hash(vae: VAE, source_hash: str, indices: np.ndarray) -> str:
    digest = hashlib.sha256(source_hash.encode())
    digest.update(np.asarray(indices, np.int64).tobytes())
    for leaf in jax.tree.leaves(nnx.to_pure_dict(nnx.state(vae))):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@partial(jax.jit, static_argnames="graph")
def _decode(graph: nnx.GraphDef, parameters, latents: jax.Array) -> jax.Array:
    images = nnx.merge(graph, parameters).decode(latents)
    return jnp.round(jnp.clip((images + 1.0) * 127.5, 0, 255)).astype(jnp.uint8)


def decode_images(vae: VAE, latents: np.ndarray) -> np.ndarray:
    """Images uint8 [n, 8h, 8w, 3] of unscaled latents [n, h, w, c]."""
    graph, parameters = nnx.split(vae)
    images = []
    for start in range(0, len(latents), BATCH):
        part = latents[start : start + BATCH]
        full = np.pad(part, ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)), mode="edge")
        images.append(np.asarray(_decode(graph, parameters, full))[: len(part)])
    return np.concatenate(images)
