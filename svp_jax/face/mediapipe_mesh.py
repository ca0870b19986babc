"""MediaPipe's 478 landmarks as a face model: the mesh, its normals, and the parts drawn from its contours."""

import functools

import cv2
import numpy as np

from svp_jax.face.labels import LABEL_INDEX
from svp_jax.face.rasterizer import faces_viewer, render_normals
from svp_jax.face.skull import skull_triangles, skull_vertices

# Closed contours of landmark indices; right and left are the subject's.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
LEFT_BROW = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
NOSE = (
    168, 193, 245, 188, 174, 217, 198, 209, 49, 48, 64, 98, 97, 2,
    326, 327, 294, 278, 279, 429, 420, 437, 399, 412, 465, 417,
)  # fmt: skip
_UPPER_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_LOWER_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_LIP = _UPPER_OUTER + _UPPER_INNER[::-1]
LOWER_LIP = _LOWER_OUTER + _LOWER_INNER[::-1]
INNER_MOUTH = _UPPER_INNER + _LOWER_INNER[-2:0:-1]
# Centre of the iris, then four points of its edge.
RIGHT_IRIS = (468, 469, 470, 471, 472)
LEFT_IRIS = (473, 474, 475, 476, 477)

_SHIFT = 4  # Corners of polygons are given to OpenCV in 1/16 pixel.


@functools.cache
def triangles() -> np.ndarray:
    """Triangles int32 [T, 3] over `mesh_vertices`: MediaPipe's tessellation and a fan over each eye.

    The tessellation has three holes. The mouth stays open, so that the geometry shows how far it is; the eyes
    are filled, because a hole there would look like an open eye in a blink.
    """
    from mediapipe.tasks.python.vision import FaceLandmarksConnections

    edges = FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    # Three consecutive edges go round one triangle.
    skin = np.array([edge.start for edge in edges]).reshape(-1, 3)
    # As the tessellation does, the fans wind so that the skin's outside faces the viewer.
    fans = [_fan(RIGHT_EYE, 478), _fan(LEFT_EYE[::-1], 479)]
    return np.concatenate([skin, *fans]).astype(np.int32)


def _fan(ring: tuple, centre: int) -> np.ndarray:
    return np.array([(a, b, centre) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)])


def mesh_vertices(landmarks: np.ndarray) -> np.ndarray:
    """The 478 landmarks and the middles of both eyes: float32 [480, 3]."""
    middles = [landmarks[list(ring)].mean(axis=0) for ring in (RIGHT_EYE, LEFT_EYE)]
    return np.concatenate([landmarks, middles]).astype(np.float32)


def render_geometry(landmarks: np.ndarray, size: int) -> np.ndarray:
    """The normals of mesh and skull as colours, uint8 [size, size, 3]; black outside them and in the open mouth.

    Args:
        landmarks: [478, 3] in pixels of the picture, small depth near.
    """
    face = mesh_vertices(landmarks)
    vertices = np.concatenate([face, skull_vertices(landmarks)])
    skull = skull_triangles() + len(face)
    # The skull is open below: when the head tilts back, an open mouth shows its inside, which must stay black.
    shown = np.concatenate([np.ones(len(triangles()), bool), faces_viewer(vertices, skull)])
    return render_normals(vertices, np.concatenate([triangles(), skull]), size, size, shown)


def coverage(points: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel the polygon `points` [n, 2] covers, uint8 [size, size] in 0..255.

    Drawn finer within its bounds and averaged: OpenCV's own antialiasing makes a polygon half a pixel larger all
    round, which at 64 pixels doubles an iris.
    """
    mask = np.zeros((size, size), np.uint8)
    low = np.clip(np.floor(points.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, size).astype(int)
    width, height = high - low
    if width > 0 and height > 0:
        # Eyes need it most and cost the least.
        finer = 16 if max(width, height) <= 64 else 4
        fine = np.zeros((height * finer, width * finer), np.uint8)
        fixed = np.rint(((points - low) * finer - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(fine, [fixed], 255, cv2.LINE_8, _SHIFT)
        mask[low[1] : high[1], low[0] : high[0]] = cv2.resize(
            fine, (int(width), int(height)), interpolation=cv2.INTER_AREA
        )
    return mask


def region(landmarks: np.ndarray, contour: tuple, size: int) -> np.ndarray:
    """`coverage` of a contour of landmarks."""
    return coverage(landmarks[list(contour), :2], size)


def iris_circle(landmarks: np.ndarray, iris: tuple) -> tuple[np.ndarray, float]:
    """Centre [2] and radius of an iris in pixels."""
    centre = landmarks[iris[0], :2]
    return centre, float(np.linalg.norm(landmarks[list(iris[1:]), :2] - centre, axis=1).mean())


def iris_disc(landmarks: np.ndarray, iris: tuple, size: int) -> np.ndarray:
    """The whole disc of an iris, lids ignored, as antialiased uint8 [size, size]."""
    centre, radius = iris_circle(landmarks, iris)
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return coverage(centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), size)


def iris_map(landmarks: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: right iris, left iris (what the lids leave of them), both eye openings."""
    openings = [region(landmarks, eye, size) for eye in (RIGHT_EYE, LEFT_EYE)]
    discs = [iris_disc(landmarks, iris, size) for iris in (RIGHT_IRIS, LEFT_IRIS)]
    seen = [np.minimum(disc, opening) for disc, opening in zip(discs, openings, strict=True)]
    return np.stack([*seen, np.maximum(*openings)], axis=-1)


def draw_parts(labels: np.ndarray, landmarks: np.ndarray) -> None:
    """Draws brows, eyes, irises, nose, lips and mouth interior over a label map uint8 [S, S], in place."""
    size = len(labels)

    def paint(name: str, mask: np.ndarray) -> None:
        labels[mask > 127] = LABEL_INDEX[name]

    paint("nose", region(landmarks, NOSE, size))
    paint("right_brow", region(landmarks, RIGHT_BROW, size))
    paint("left_brow", region(landmarks, LEFT_BROW, size))
    eyes = (("right_eye", RIGHT_EYE, RIGHT_IRIS), ("left_eye", LEFT_EYE, LEFT_IRIS))
    for name, eye, iris in eyes:
        opening = region(landmarks, eye, size)
        paint(name, opening)
        paint("iris", np.minimum(opening, iris_disc(landmarks, iris, size)))
    # The lips come last: a closed mouth must not show an interior.
    paint("inner_mouth", region(landmarks, INNER_MOUTH, size))
    paint("upper_lip", region(landmarks, UPPER_LIP, size))
    paint("lower_lip", region(landmarks, LOWER_LIP, size))
