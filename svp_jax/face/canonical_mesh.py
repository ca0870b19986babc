"""MediaPipe's canonical face: its 468 points on an average face, in centimetres."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError

_ENTRY = "geometry_pipeline_metadata_landmarks.binarypb"
# Field numbers of mediapipe/tasks/cc/vision/face_geometry/proto: GeometryPipelineMetadata and Mesh3d.
_MESH, _VERTEX_BUFFER = 1, 3
_POINTS, _FLOATS = 468, 5  # Position and texture coordinates.


def canonical_face(landmarker: Path) -> np.ndarray:
    """float32 [468, 3] in centimetres, x to the picture's right, y up, z to the viewer.

    Args:
        landmarker: face_landmarker.task, which carries the mesh.

    Raises:
        UserError: the file has none.
    """
    try:
        with zipfile.ZipFile(landmarker) as bundle:
            message = bundle.read(_ENTRY)
        mesh = next(content for field, content in _fields(message) if field == _MESH)
        numbers = b"".join(content for field, content in _fields(mesh) if field == _VERTEX_BUFFER)
        return np.frombuffer(numbers, "<f4").reshape(_POINTS, _FLOATS)[:, :3].copy()
    except (OSError, KeyError, ValueError, IndexError, StopIteration, zipfile.BadZipFile):
        raise UserError(f"{landmarker} holds no canonical face mesh; download face_landmarker.task again") from None


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, content) of a protocol buffer; numbers in variable length come as no bytes.

    MediaPipe's wheels bring no Python classes for these messages.
    """
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        kind = key & 7
        if kind == 0:
            number()
            size = 0
        elif kind == 2:
            size = number()
        else:
            size = {1: 8, 5: 4}[kind]
        yield key >> 3, message[at : at + size]
        at += size
