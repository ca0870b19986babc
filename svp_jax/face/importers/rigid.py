"""Heads that were given in a world, before a camera that stands elsewhere in it."""

from dataclasses import replace

import numpy as np

from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.flame import Flame
from svp_jax.face.morphable.parameters import FaceParameters


def before_camera(model: Flame, parameters: FaceParameters, turn: np.ndarray, shift: np.ndarray) -> FaceParameters:
    """Parameters whose vertices are turn @ v + shift, v being those of the given ones.

    FLAME turns its head about the root joint, not about the origin, so the translation depends on where that joint is.

    Args:
        turn: rotation matrices [B, 3, 3] or [3, 3], from the world to the camera (x right, y up, looking along -z).
        shift: [B, 3] or [3].
    """
    root = np.asarray(model.sized(parameters).rest_joints(parameters)[:, 0], np.float64)
    own = np.asarray(rotation.matrix(np.asarray(parameters.rotation)), np.float64)
    moved = np.einsum("...ij,bj->bi" if turn.ndim == 2 else "bij,bj->bi", turn, root + parameters.translation) + shift
    return replace(
        parameters,
        rotation=rotation.vector(turn @ own).astype(np.float32),
        translation=(moved - root).astype(np.float32),
    )
