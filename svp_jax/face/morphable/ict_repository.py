"""Reads ICT-FaceKit from a checkout of its repository, github.com/ICT-VGL/ICT-FaceKit (MIT).

`FaceXModel/` holds a mesh in a file of its own for the average face, for each identity and for each expression, and
`vertex_indices.json`, which lists expressions and landmarks. What the vertices and polygons are parts of stands in the
README's tables alone ("Face Model Topology", "Face Area Details", "Eyeball Details"), here as constants.
"""

import json
import re
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError

# Of the checkout, all that is read.
FOLDER = "FaceXModel"
_NEUTRAL, _CONFIG = "generic_neutral_mesh", "vertex_indices.json"
_IDENTITIES = 100
# Files of the folder that its vertex_indices.json leaves out.
_UNLISTED = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")
_VERTICES, _POLYGONS = 26719, 26384
# Name, end of its vertices, end of its polygons; each part begins where the one before it ends. Beyond the eyeballs
# come lacrimal fluid, eye blend, eye occlusion and lashes, which are left out.
_PARTS = (
    ("face", 9409, 9230),
    ("head_and_neck", 11248, 11144),
    ("mouth_socket", 13294, 13226),
    ("eye_socket_left", 13678, 13630),
    ("eye_socket_right", 14062, 14034),
    ("gums_and_tongue", 17039, 17006),
    ("teeth", 21451, 21496),
    ("eyeball_left", 23021, 23094),
    ("eyeball_right", 24591, 24692),
)
_KEPT = _PARTS[-1][1]
# Neck and sockets share a seam with the face; the parts from here on have all their vertices to themselves.
_FIRST_CLOSED = 5
_SUBPARTS = {
    "narrow_face": (0, 6706),
    "sclera_left": (21451, 22221),
    "iris_left": (22221, 23021),
    "sclera_right": (23021, 23791),
    "iris_right": (23791, 24591),
}
_AGAIN = "check out github.com/ICT-VGL/ICT-FaceKit again"


def read_repository(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of `ict_face_model.npz` that `ict.load_ict` needs, in centimetres.

    Returns:
        neutral float32 [24591, 3], identity float32 [100, 24591, 3] and expression float32 [E, 24591, 3] (both minus
        neutral), expression_names [E], faces int32 [T, 3], face_part int8 [T], part_names, part_vertex_ranges [n, 2],
        subpart_names, subpart_vertex_ranges [n, 2] (half open), landmarks68 int32 [68].

    Raises:
        UserError: the folder is no such checkout; a file is missing, broken or of another mesh.
    """
    meshes = Path(folder) / FOLDER
    if not (meshes / f"{_NEUTRAL}.obj").exists():
        raise UserError(f"{folder}: has no {FOLDER}/{_NEUTRAL}.obj; give a checkout of github.com/ICT-VGL/ICT-FaceKit")
    listed, landmarks = _config(meshes / _CONFIG)
    text = _content(meshes / f"{_NEUTRAL}.obj")
    triangles, parts = _triangles(meshes / f"{_NEUTRAL}.obj", text)
    neutral = _vertices(meshes / f"{_NEUTRAL}.obj", text)
    names = [*listed, *(name for name in _UNLISTED if name not in listed)]

    def deltas(stems: list[str]) -> np.ndarray:
        found = np.empty((len(stems), *neutral.shape), np.float32)
        for row, stem in zip(found, stems, strict=True):
            path = meshes / f"{stem}.obj"
            row[:] = _vertices(path, _content(path)) - neutral
        return found

    starts = (0, *(end for _, end, _ in _PARTS))
    return {
        "neutral": neutral,
        "identity": deltas([f"identity{number:03d}" for number in range(_IDENTITIES)]),
        "expression": deltas(names),
        "expression_names": np.array(names),
        "faces": triangles,
        "face_part": parts,
        "part_names": np.array([name for name, _, _ in _PARTS]),
        "part_vertex_ranges": np.array([starts[:-1], starts[1:]], np.int32).T,
        "subpart_names": np.array(list(_SUBPARTS)),
        "subpart_vertex_ranges": np.array(list(_SUBPARTS.values()), np.int32),
        "landmarks68": landmarks,
    }


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from None
    if content.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: is a Git LFS pointer, not the file itself; run 'git lfs pull' in the checkout")
    return content


def _config(path: Path) -> tuple[list[str], np.ndarray]:
    """(names of the expressions, vertices int32 [68] of the Multi-PIE landmarks)."""
    text = _content(path)
    try:
        config = json.loads(text)
        names, landmarks = config["expressions"], np.array(config["idx_to_landmark_verts"], np.int32)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{path}: has no 'expressions' and 'idx_to_landmark_verts' to read; {_AGAIN}") from None
    # Names become names of files.
    if not (isinstance(names, list) and all(isinstance(n, str) and re.fullmatch(r"\w+", n) for n in names)):
        raise UserError(f"{path}: 'expressions' is no list of names; {_AGAIN}")
    if landmarks.shape != (68,) or landmarks.min() < 0 or landmarks.max() >= _KEPT:
        raise UserError(f"{path}: 'idx_to_landmark_verts' is no list of 68 vertices below {_KEPT}; {_AGAIN}")
    return names, landmarks


def _vertices(path: Path, text: bytes) -> np.ndarray:
    """float32 [24591, 3], without the vertices that are left out."""
    lines = re.findall(rb"^v ([^\r\n]*)", text, re.MULTILINE)
    if len(lines) != _VERTICES:
        raise UserError(f"{path}: has {len(lines)} vertices, ICT-FaceKit's meshes have {_VERTICES}; {_AGAIN}")
    try:
        vertices = np.loadtxt(lines[:_KEPT], np.float32)
    except ValueError:
        raise UserError(f"{path}: has vertices that are not three numbers; {_AGAIN}") from None
    if vertices.shape != (_KEPT, 3) or not np.isfinite(vertices).all():
        raise UserError(f"{path}: has vertices that are not three finite numbers; {_AGAIN}")
    return vertices


def _triangles(path: Path, text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(triangles int32 [T, 3], number of the part int8 [T]) of the kept polygons; a quad a b c d is a b c, a c d."""
    lines = re.findall(rb"^f ([^\r\n]*)", text, re.MULTILINE)
    if len(lines) != _POLYGONS:
        raise UserError(f"{path}: has {len(lines)} polygons, ICT-FaceKit's meshes have {_POLYGONS}; {_AGAIN}")
    kept = lines[: _PARTS[-1][2]]
    sizes = np.array([len(line.split()) for line in kept])
    try:
        # A corner is vertex/texture/normal, of which the last two may be missing; OBJ counts from 1.
        corners = np.array([corner.partition(b"/")[0] for corner in b" ".join(kept).split()]).astype(np.int32) - 1
    except (ValueError, OverflowError):
        raise UserError(f"{path}: has polygons whose corners are not numbers; {_AGAIN}") from None
    if not np.isin(sizes, (3, 4)).all() or corners.min() < 0 or corners.max() >= _KEPT:
        raise UserError(f"{path}: has polygons that are no triangles or quads of its vertices; {_AGAIN}")
    first = np.cumsum(sizes) - sizes
    polygon = np.repeat(np.arange(len(sizes)), sizes - 2)
    # 0 for a polygon's first triangle, 1 for its second.
    fan = np.arange(len(polygon)) - np.repeat(np.cumsum(sizes - 2) - (sizes - 2), sizes - 2)
    triangles = corners[first[polygon][:, None] + np.stack([0 * fan, fan + 1, fan + 2], axis=1)]
    parts = np.searchsorted([end for _, _, end in _PARTS], polygon, side="right").astype(np.int8)
    for number in range(_FIRST_CLOSED, len(_PARTS)):
        own = triangles[parts == number]
        name, end, _ = _PARTS[number]
        if own.min() < _PARTS[number - 1][1] or own.max() >= end:
            raise UserError(f"{path}: {name} uses vertices of other parts, so it is another version; {_AGAIN}")
    return triangles, parts
