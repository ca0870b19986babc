"""Where the 68 landmarks lie on FLAME, as the embeddings of DECA and smplx say it.

An embedding names a triangle and barycentric coordinates for each point. Those of the jawline depend on the yaw: the
dynamic embedding has a row for each degree, since the contour that is seen is another one when the head turns.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.morphable.embedding import Embedding, joined
from svp_jax.face.pickles import load_npy, load_pickle

DECA = ("landmark_embedding.npy", "landmark_embedding_with_eyes.npy")
STATIC, DYNAMIC = "flame_static_embedding.pkl", "flame_dynamic_embedding.npy"
# Rows of the dynamic embedding: 0 to 39 are degrees of yaw to one side, 40 to 78 are -1 to -39.
_ROWS, _JAWLINE = 79, 17
_MOST = 39


@partial(jax.tree_util.register_dataclass, data_fields=["frontal", "contours"], meta_fields=[])
@dataclass(frozen=True)
class FlameLandmarks:
    """The landmarks of FLAME.

    Attributes:
        frontal: the 68 Multi-PIE points; those of the jawline (0 to 16) for a head that looks straight ahead.
        contours: the jawline's points by yaw, corners and weights [79, 17, 3], or None where no file has them.
    """

    frontal: Embedding
    contours: Embedding | None


def landmark_files(folder: Path) -> list[Path]:
    """The files that `read_landmarks` reads in a folder, none where there are none."""
    first = next((folder / name for name in (*DECA, STATIC) if (folder / name).is_file()), None)
    if first is None:
        return []
    return [first, folder / DYNAMIC] if first.name == STATIC else [first]


def read_landmarks(path: Path, triangles: np.ndarray) -> FlameLandmarks | None:
    """The landmarks in a file, or in a folder under one of their usual names; None where a folder has none.

    Args:
        path: DECA's landmark_embedding.npy, smplx's flame_static_embedding.pkl (with flame_dynamic_embedding.npy
            beside it), or a folder.
        triangles: int [T, 3] of the model.

    Raises:
        UserError: a file cannot be read, would run code, or does not fit FLAME.
    """
    if path.is_dir():
        files = landmark_files(path)
        return read_landmarks(files[0], triangles) if files else None
    if path.suffix == ".npy":
        return _of_deca(path, load_npy(path), triangles)
    return _of_smplx(path, load_pickle(path), triangles)


def _of_deca(path: Path, content: object, triangles: np.ndarray) -> FlameLandmarks:
    """decalib/models/FLAME.py of DECA: the inner face's 51 points, the contours, and 68 that do not move with yaw."""
    if isinstance(content, dict) and "dynamic_lmk_faces_idx" in content:
        inner = _embedding(path, content, "static_lmk_faces_idx", "static_lmk_bary_coords", triangles)
        names = ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
        contours = _contours(path, content, *names, triangles)
        return _with_contours(path, inner, contours)
    full = _embedding(path, content, "full_lmk_faces_idx", "full_lmk_bary_coords", triangles)
    if len(full) < 68:
        raise UserError(f"{path} has {len(full)} landmarks; give DECA's landmark_embedding.npy, which has 68")
    # Further ones are the eyes'.
    return FlameLandmarks(full.taken(slice(68)), None)


def _of_smplx(path: Path, content: object, triangles: np.ndarray) -> FlameLandmarks:
    """smplx/body_models.py: the inner face's 51 points in one file and the contours in another."""
    inner = _embedding(path, content, "lmk_face_idx", "lmk_b_coords", triangles)
    dynamic = path.with_name(DYNAMIC)
    if not dynamic.is_file():
        raise UserError(f"{path} has no jawline without {dynamic}; put that file beside it")
    contours = _contours(dynamic, load_npy(dynamic), "lmk_face_idx", "lmk_b_coords", triangles)
    return _with_contours(path, inner, contours)


def _with_contours(path: Path, inner: Embedding, contours: Embedding) -> FlameLandmarks:
    if len(inner) != 68 - _JAWLINE:
        raise UserError(f"{path} has {len(inner)} landmarks of the inner face; give an embedding of 51")
    return FlameLandmarks(joined(contours.taken(0), inner), contours)


def contour_points(contours: Embedding, vertices: jax.Array, heads: jax.Array) -> jax.Array:
    """The jawline's points that are seen as the contour, [B, 17, 3].

    As smplx finds them (`find_dynamic_lmk_idx_and_bcoords`); which triangles they lie in has no gradient.

    Args:
        contours: of `FlameLandmarks`.
        vertices: [B, V, 3].
        heads: [B, 3, 3], the rotations of the heads: the root's, or the root's times the neck's.
    """
    sideways = jnp.arctan2(-heads[:, 2, 0], jnp.hypot(heads[:, 0, 0], heads[:, 1, 0]))
    degrees = jnp.clip(jnp.round(-jnp.degrees(jax.lax.stop_gradient(sideways))), -_MOST, _MOST).astype(jnp.int32)
    row = jnp.where(degrees < 0, _MOST - degrees, degrees)
    corners, weights = jnp.asarray(contours.corners)[row], jnp.asarray(contours.weights)[row]
    at_corners = jax.vmap(lambda points, which: points[which])(vertices, corners)
    return (at_corners * weights[..., None]).sum(-2)


def _embedding(path: Path, content: object, faces_name: str, weights_name: str, triangles: np.ndarray) -> Embedding:
    faces = _numbers(path, content, faces_name).astype(np.int64).ravel()
    weights = _numbers(path, content, weights_name)
    if weights.size != 3 * faces.size:
        raise UserError(f"{path}: {weights_name} has not 3 numbers for each of the {faces.size} of {faces_name}")
    if faces.min(initial=0) < 0 or faces.max(initial=0) >= len(triangles):
        raise UserError(f"{path}: {faces_name} names triangles beyond the model's {len(triangles)}; give FLAME's own")
    return Embedding(triangles[faces], weights.reshape(-1, 3).astype(np.float32))


def _contours(path: Path, content: object, faces_name: str, weights_name: str, triangles: np.ndarray) -> Embedding:
    flat = _embedding(path, content, faces_name, weights_name, triangles)
    if len(flat) != _ROWS * _JAWLINE:
        raise UserError(f"{path}: {faces_name} must be [{_ROWS}, {_JAWLINE}], it has {len(flat)} numbers")
    shape = (_ROWS, _JAWLINE, 3)
    return Embedding(flat.corners.reshape(shape), flat.weights.reshape(shape))


def _numbers(path: Path, content: object, name: str) -> np.ndarray:
    if not isinstance(content, dict) or name not in content:
        raise UserError(f"{path} lacks {name}; give DECA's landmark_embedding.npy or smplx's {STATIC} and {DYNAMIC}")
    try:
        numbers = np.asarray(content[name], np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {name} is no array of numbers; download it again") from None
    if not np.isfinite(numbers).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite; download it again")
    return numbers
