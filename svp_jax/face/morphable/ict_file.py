"""Reads ICT-FaceKit repacked into one file, ict_face_model.npz; `ict_repository` reads its repository instead."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.arrays import Layout, checked_array
from svp_jax.face.pickles import load_npz

FILE = "ict_face_model.npz"
# Part of the file -> part of our models (`model.PARTS`). Left and right are the subject's in both.
PARTS = {
    "face": "skin",
    "head_and_neck": "skin",
    "mouth_socket": "inside",
    "eye_socket_left": "inside",
    "eye_socket_right": "inside",
    # No tracker sees a tongue: at rest it would fill every open mouth.
    "gums_and_tongue": "inside",
    "teeth": "teeth",
    "eyeball_left": "left_eye",
    "eyeball_right": "right_eye",
}
_SUBPARTS = ("sclera_left", "iris_left", "sclera_right", "iris_right")
_LAYOUT: Layout = {
    "neutral": ("f", ("V", 3)),
    "identity": ("f", ("I", "V", 3)),
    "expression": ("f", ("E", "V", 3)),
    "expression_names": ("U", ("E",)),
    "faces": ("iu", ("T", 3)),
    "face_part": ("iu", ("T",)),
    "part_names": ("U", ("P",)),
    "part_vertex_ranges": ("iu", ("P", 2)),
    "subpart_names": ("U", ("S",)),
    "subpart_vertex_ranges": ("iu", ("S", 2)),
    "landmarks68": ("iu", (68,)),
}
# What the numbers of each array count; all ranges are half open.
_INDICES = {"faces": "V", "face_part": "P", "landmarks68": "V"}
_AGAIN = f"get {FILE} again"


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `ict.load_ict` needs, in centimetres; as `ict_repository.read_repository` gives them.

    Returns:
        Those of `_LAYOUT`: V vertices, I identities and E expressions (both minus neutral), T triangles, P parts and
        S of their subparts. Floating point numbers may have half precision.

    Raises:
        UserError: the file cannot be read, is damaged, or is no such model.
    """
    content = load_npz(path)
    sizes: dict[str, int] = {}
    arrays = {name: _array(content, name, sizes, path) for name in _LAYOUT}
    for name, counted in _INDICES.items():
        lowest, highest, most = arrays[name].min(), arrays[name].max(), sizes[counted] - 1
        if lowest < 0 or highest > most:
            raise UserError(f"{path}: {name} has numbers from {lowest} to {highest}, allowed are 0 to {most}; {_AGAIN}")
    unknown = sorted({*arrays["part_names"].tolist()} - {*PARTS})
    if unknown:
        raise UserError(f"{path}: part_names has {unknown[0]!r}, known are {', '.join(PARTS)}; {_AGAIN}")
    _check_parts(arrays, "part", PARTS, sizes["V"], path)
    _check_parts(arrays, "subpart", _SUBPARTS, sizes["V"], path)
    return arrays


def _array(content: dict[str, object], name: str, sizes: dict[str, int], path: Path) -> np.ndarray:
    """One array after its checks; `sizes`: of the letters met so far, to which its own are added."""
    if name not in content:
        raise UserError(f"{path}: has no array {name!r}, so it is no ICT face model; give {FILE}")
    array = checked_array(content[name], name, _LAYOUT, sizes, path, _AGAIN)
    if not array.size:
        raise UserError(f"{path}: {name} is empty; {_AGAIN}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite; {_AGAIN}")
    return array


def _check_parts(arrays: dict[str, np.ndarray], what: str, needed: Iterable[str], vertices: int, path: Path) -> None:
    names, ranges = arrays[f"{what}_names"].tolist(), arrays[f"{what}_vertex_ranges"].tolist()
    for name in needed:
        if name not in names:
            raise UserError(f"{path}: {what}_names lacks {name!r}; {_AGAIN}")
    for name, (start, stop) in zip(names, ranges, strict=True):
        if not 0 <= start < stop <= vertices:
            where = f"{what}_vertex_ranges has {start} to {stop} for {name!r}"
            raise UserError(f"{path}: {where}, allowed are ranges within 0 to {vertices}; {_AGAIN}")
