"""FLAME's model files as their makers give them: pickles of Python 2 or 3, or .npz files with the same names in them.

FLAME (Li et al. 2017, flame.is.tue.mpg.de) of 2020 is generic_model.pkl, that of 2023 flame2023.pkl or
flame2023_no_jaw.pkl. Their licences do not allow to pass them on, so users download them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.pickles import load_npz, load_pickle

VERTICES = 5023
JOINTS = 5
POSE_FEATURES = 9 * (JOINTS - 1)
# How many of the columns of shapedirs are identity, the rest being expression: all, and those of shortened files.
_IDENTITIES = {400: 300, 150: 100}
_OTHERS = {6890: "SMPL", 10475: "SMPL-X", 778: "MANO", 3889: "SMAL"}


@dataclass(frozen=True)
class FlameArrays:
    """The arrays of a FLAME file, float64 but for the triangles; lengths in metres.

    Attributes:
        template: [V, 3], the average face at rest.
        identity, expression: [V, 3, n], displacements for one standard deviation.
        pose: [V, 3, 36], displacements for the entries of the rotation matrices of all joints but the first, minus 1.
        regressor: [5, V], the joints (root, neck, jaw, left eye, right eye) as sums of vertices.
        skinning: [V, 5], how much each joint moves each vertex.
        triangles: int32 [T, 3], counter-clockwise seen from outside.
    """

    template: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    regressor: np.ndarray
    skinning: np.ndarray
    triangles: np.ndarray


def read_flame(path: Path) -> FlameArrays:
    """Reads a model file.

    Raises:
        UserError: it cannot be read, would run code, is another model, or lacks an array.
    """
    content = load_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, dict) or "v_template" not in content:
        raise UserError(f"{path} is no FLAME model (no v_template); give generic_model.pkl or flame2023.pkl")
    template = _array(content, "v_template", path, (None, 3))
    vertices = len(template)
    if vertices != VERTICES:
        what = _OTHERS.get(vertices, "another model")
        raise UserError(
            f"{path} has {vertices} vertices, so it is {what}; give FLAME 2020 or 2023, which have {VERTICES}"
        )
    shapes = _array(content, "shapedirs", path, (vertices, 3, None))
    if shapes.shape[2] not in _IDENTITIES:
        raise UserError(
            f"{path}: shapedirs has {shapes.shape[2]} columns; FLAME's files have 400 (300 shape and 100 expression) "
            "or 150 (100 and 50), give one of these"
        )
    split = _IDENTITIES[shapes.shape[2]]
    _check_joints(_array(content, "kintree_table", path, (None, JOINTS)), path)
    return FlameArrays(
        template=template,
        identity=shapes[..., :split],
        expression=shapes[..., split:],
        pose=_array(content, "posedirs", path, (vertices, 3, POSE_FEATURES)),
        regressor=_array(content, "J_regressor", path, (JOINTS, vertices)),
        skinning=_array(content, "weights", path, (vertices, JOINTS)),
        triangles=_triangles(_array(content, "f", path, (None, 3)), vertices, path),
    )


def _array(content: dict, name: str, path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    if name not in content:
        raise UserError(f"{path} lacks {name}; download FLAME again")
    try:
        array = np.asarray(content[name], np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {name} is no array of numbers; download FLAME again") from None
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise UserError(
            f"{path}: {name} has the shape {list(array.shape)}, FLAME's is [{wanted}]; download FLAME again"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite; download FLAME again")
    return array


def _check_joints(table: np.ndarray, path: Path) -> None:
    # The root's own parent is written as -1 or as the largest uint32.
    if table[0, 1:].tolist() != [0, 1, 1, 1]:
        raise UserError(
            f"{path}: kintree_table hangs the joints on {table[0].astype(int).tolist()}, FLAME's on "
            "[-1, 0, 1, 1, 1] (root, neck, jaw, eyes); download FLAME again"
        )


def _triangles(corners: np.ndarray, vertices: int, path: Path) -> np.ndarray:
    if corners.min(initial=0) < 0 or corners.max(initial=0) >= vertices:
        raise UserError(f"{path}: f names vertices beyond the {vertices} that there are; download FLAME again")
    return corners.astype(np.int32)
