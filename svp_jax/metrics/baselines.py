"""What stands beside each result: two look-ups in the training frames, and the ceiling that the VAE sets."""

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.capture.capture import Capture
from svp_jax.face.conditions import details_condition
from svp_jax.manifest import read_manifest
from svp_jax.models.vae import VAE
from svp_jax.weights.base import base_folder

SIGNATURE_SIDE = 32  # Conditions are compared at this size: pose and expression show, single pixels do not.
VAE_BATCH = 8


def nearest_training_frames(training: Capture, capture: Capture, indices: np.ndarray) -> np.ndarray:
    """For each frame, the training frame whose condition is the most like its own.

    Args:
        training: its usable frames of the training split are the candidates.
        capture, indices: the frames to look up, int [n].

    Returns:
        Frame numbers in `training`, int [n]: least Euclidean distance between parsing, geometry and iris maps
        that were averaged down to 32 x 32 pixels.
    """
    candidates = condition_signatures(training, training.train_indices)
    squares = np.square(candidates).sum(axis=1)
    # |a - b|^2 without |a|^2, which is the same for all candidates.
    distances = squares - 2 * condition_signatures(capture, indices) @ candidates.T
    return training.train_indices[distances.argmin(axis=1)]


def condition_signatures(capture: Capture, indices: np.ndarray) -> np.ndarray:
    """Condition images averaged down, float32 [n, 32 * 32 * 9] in [0, 1]."""
    side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
    rows = []
    for index in indices:
        one = [index]
        maps = details_condition(capture.parsing(one), capture.geometry(one), capture.iris(one))[0]
        rows.append(cv2.resize(maps.astype(np.float32) / 255, side, interpolation=cv2.INTER_AREA).ravel())
    return np.stack(rows)


def mean_training_frame(training: Capture) -> np.ndarray:
    """Mean of the usable training frames, uint8 [S, S, 3]."""
    total = np.zeros((training.size, training.size, 3))
    for index in training.train_indices:
        total += training.frames([index])[0]
    return np.round(total / len(training.train_indices)).astype(np.uint8)


def avatar_vae_folder(avatar: Path) -> Path:
    """The folder of an avatar's VAE: its own where it was tuned, else its base's. UserError: it is gone."""
    manifest = read_manifest(avatar, "avatar")
    if manifest["vae_tuned"]:
        return Path(avatar) / "vae"
    return base_folder(manifest["base"]["path"]) / "vae"


def vae_round_trips(vae: VAE, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields each image encoded (to the mean) and decoded again, uint8 [H, W, 3]."""
    graph, parameters = nnx.split(vae)
    images = iter(images)
    while batch := list(itertools.islice(images, VAE_BATCH)):
        # The last batch is filled up, so that one shape is compiled.
        full = np.stack(batch + [batch[-1]] * (VAE_BATCH - len(batch)))
        yield from np.asarray(_round_trip(graph, parameters, full))[: len(batch)]


@partial(jax.jit, static_argnames="graph")
def _round_trip(graph: nnx.GraphDef, parameters: nnx.State, images: jax.Array) -> jax.Array:
    vae = nnx.merge(graph, parameters)
    mean, _ = vae.encode(images.astype(jnp.float32) / 127.5 - 1)
    return jnp.round(jnp.clip((vae.decode(mean) + 1) * 127.5, 0, 255)).astype(jnp.uint8)
