"""A rigid skull for MediaPipe's mesh, which is a mask that ends at the forehead.

The renders of a morphable model show a whole head (Stable Video Portraits uses FLAME's); without one, nothing in the
picture tells a network where hair and outline go when the head turns. An ellipsoid's part above the ears, set in the
head's own axes. Its proportions are ours, of an average head: 7.9 cm half as wide, 8.2 half as high and 8.6 half as
long where the face is 15.3 cm from ear to ear.
"""

import functools

import numpy as np

# Landmarks at the subject's left and right that no expression moves apart: temples, ears, outer corners of the eyes.
_PAIRS = np.array([(454, 234), (356, 127), (389, 162), (251, 21), (263, 33)])
_LEFT_EAR, _RIGHT_EAR = 454, 234
_FOREHEAD, _UNDER_NOSE = 10, 2
# In face widths from ear to ear, along the head's axes: to its left, up, forward. The origin lies between the ears.
_CENTRE = np.array([0.0, 0.295, -0.075])
_RADII = np.array([0.515, 0.535, 0.56])
_ROWS, _COLUMNS = 16, 40


def skull_vertices(landmarks: np.ndarray) -> np.ndarray:
    """Points float32 [V, 3] of the skull of a face.

    Args:
        landmarks: [478, 3] in pixels of the picture (x right, y down), small depth near.
    """
    leftward = _unit((landmarks[_PAIRS[:, 0]] - landmarks[_PAIRS[:, 1]]).sum(axis=0))
    rising = landmarks[_FOREHEAD] - landmarks[_UNDER_NOSE]
    upward = _unit(rising - (rising @ leftward) * leftward)
    # y down and small depth near: the cross product points out of the face.
    forward = np.cross(leftward, upward)
    width = np.linalg.norm(landmarks[_LEFT_EAR] - landmarks[_RIGHT_EAR])
    between = (landmarks[_LEFT_EAR] + landmarks[_RIGHT_EAR]) / 2
    points, _ = _dome()
    return (between + width * points @ np.stack([leftward, upward, forward])).astype(np.float32)


def skull_triangles() -> np.ndarray:
    """Triangles int32 [T, 3] over `skull_vertices`; the outside faces the viewer as in `mediapipe_mesh.triangles`."""
    return _dome()[1]


@functools.cache
def _dome() -> tuple[np.ndarray, np.ndarray]:
    """(points [V, 3] in face widths, triangles [T, 3]): rows from the crown down to the height of the ears."""
    down = np.linspace(0, np.arccos(-_CENTRE[1] / _RADII[1]), _ROWS)[:, None]
    around = np.linspace(0, 2 * np.pi, _COLUMNS, endpoint=False)
    sphere = np.stack(
        [np.sin(down) * np.cos(around), np.cos(down) * np.ones(_COLUMNS), np.sin(down) * np.sin(around)], axis=-1
    )
    corner = np.arange((_ROWS - 1) * _COLUMNS)
    beside = corner // _COLUMNS * _COLUMNS + (corner + 1) % _COLUMNS
    triangles = np.concatenate(
        [
            np.stack([corner, beside, corner + _COLUMNS], axis=1),
            np.stack([beside, beside + _COLUMNS, corner + _COLUMNS], axis=1),
        ]
    )
    return sphere.reshape(-1, 3) * _RADII + _CENTRE, triangles.astype(np.int32)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
