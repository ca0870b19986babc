"""What stands beside each result: two look-ups in the training frames, and the VAE that sets the ceiling."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.capture.conditions import details_of
from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest
from svp_jax.weights.base import open_base
from svp_jax.weights.component import Component
from svp_jax.weights.folder import open_model

BLOCK = 256  # Frames that are looked up at a time.
SIGNATURE_SIDE = 32  # Conditions are compared at this size: pose and expression show, single pixels do not.


def nearest_training_frames(
    training: Sequence[Capture], capture: Capture, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each frame, the training frame whose condition is the most like its own.

    Holds 37 kB for each training frame.

    Args:
        training: captures with usable frames in their training splits, which are the candidates.
        capture, indices: the frames to look up, int [n].

    Returns:
        Numbers in `training` and frame numbers in these captures, int [n] each: least Euclidean distance between
        parsing, geometry and iris maps that were averaged down to 32 x 32 pixels.
    """
    candidates = np.concatenate([condition_signatures(each, each.train_indices) for each in training])
    squares = np.square(candidates).sum(axis=1)
    nearest = np.empty(len(indices), int)
    for start in range(0, len(indices), BLOCK):
        rows = slice(start, start + BLOCK)
        # |a - b|^2 without |a|^2, which is the same for all candidates.
        distances = squares - 2 * condition_signatures(capture, indices[rows]) @ candidates.T
        nearest[rows] = distances.argmin(axis=1)
    sources = np.repeat(np.arange(len(training)), [len(each.train_indices) for each in training])
    return sources[nearest], np.concatenate([each.train_indices for each in training])[nearest]


def condition_signatures(capture: Capture, indices: np.ndarray) -> np.ndarray:
    """Condition images averaged down, float32 [n, 32 * 32 * 9] in [0, 1]."""
    side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
    rows = []
    for index in indices:
        maps = details_of(capture, [index], capture.parsing([index]))[0]
        rows.append(cv2.resize(maps.astype(np.float32) / 255, side, interpolation=cv2.INTER_AREA).ravel())
    return np.stack(rows)


def mean_training_frame(training: Sequence[Capture]) -> np.ndarray:
    """Mean of the usable training frames of all captures, uint8 [S, S, 3]."""
    total = np.zeros((training[0].size, training[0].size, 3))
    for capture in training:
        for index in capture.train_indices:
            total += capture.frames([index])[0]
    return np.round(total / sum(len(capture.train_indices) for capture in training)).astype(np.uint8)


def render_avatar(render: dict) -> dict:
    """The manifest of the avatar that a render was made from; UserError where that is gone or another by now."""
    manifest = read_manifest(Path(render["avatar"]), "avatar")
    if manifest["manifest_sha256"] != render["avatar_sha256"]:
        raise UserError(f"the avatar {render['avatar']} is not the one that was rendered any more; render again")
    return manifest


def avatar_vae(render: dict) -> Component:
    """The VAE that a render was made with, unread: the avatar's own where it was tuned, else its base's.

    The base's also with `--unet base`, which takes both.

    Raises:
        UserError: the avatar or the base is gone, or the avatar is another by now.
    """
    avatar = render_avatar(render)
    if avatar["vae_tuned"] and render["settings"]["unet"] != "base":
        return open_model(Path(render["avatar"]) / "vae")
    # The base may have moved since training: then the render knows where it was found.
    return open_base(render["base"]["path"]).components["vae"]
