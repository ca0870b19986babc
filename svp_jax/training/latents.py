"""Latents of the training images, computed once and kept on disk with a hash of what made them."""

import hashlib
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models.codec import encode_images
from svp_jax.models.vae import VAE


def cached_latents(path: Path, vae: VAE, source_hash: str, read, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
