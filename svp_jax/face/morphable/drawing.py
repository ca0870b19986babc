"""The condition images of a posed face model: coloured normals, and where the irises are."""

import cv2
import numpy as np

from svp_jax.face.mediapipe_mesh import iris_map, render_geometry
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.model import PART_INDEX, FaceModel
from svp_jax.face.perspective import rasterize_perspective, render_normals_perspective
from svp_jax.face.rasterizer import gather

_FINE_EYE = 160  # Pixels across an eye, at least, when its iris is drawn.


def condition_images(model: FaceModel, points: np.ndarray, camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(geometry, iris map), both uint8 [size, size, 3], of one posed face.

    The geometry is black outside the head, in the sockets of mouth and eyes and on the irises; the iris map has the
    right iris, the left iris and both eye openings, as far as they are seen, as R, G, B.

    Args:
        points: [V, 3], one row of `model.vertices`.
        camera: of the picture of `size` pixels.
    """
    if model.name == "mediapipe":
        if (points[:, 2] >= 0).any():
            # What lies behind a camera has no place in its picture, and landmarks are no surface that could be cut.
            black = np.zeros((size, size, 3), np.uint8)
            return black, black.copy()
        screen = np.asarray(camera.project(points))
        # Depth in pixels, as the tracker gives it.
        pixels = float(camera.focal) / screen[:, 2].mean()
        landmarks = np.concatenate([screen[:, :2], (screen[:, 2:] - screen[:, 2].mean()) * pixels], axis=1)
        return render_geometry(landmarks, size), iris_map(landmarks, size)
    focal, centre = float(camera.focal), np.asarray(camera.centre, np.float64)
    shown = model.parts != PART_INDEX["inside"]
    geometry = render_normals_perspective(points, model.triangles, focal, centre, size, size, shown=shown, cull=True)
    iris = np.zeros((size, size, 3), np.uint8)
    for channel, name in enumerate(("right_eye", "left_eye")):
        disc, opening = _eye(model, points, focal, centre, size, PART_INDEX[name])
        iris[..., channel] = disc
        iris[..., 2] = np.maximum(iris[..., 2], opening)
    covered = iris[..., :2].max(axis=-1, keepdims=True)
    return (geometry * (1 - covered / np.float32(255))).astype(np.uint8), iris


def _eye(
    model: FaceModel, points: np.ndarray, focal: float, centre: np.ndarray, size: int, part: int
) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel the iris and the whole eyeball cover, uint8 [size, size] each."""
    disc, opening = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    ball = points[np.unique(model.triangles[model.parts == part])]
    if (ball[:, 2] >= 0).any():
        return disc, opening
    screen = centre + focal * ball[:, :2] * [1, -1] / -ball[:, 2:]
    low = np.clip(np.floor(screen.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(screen.max(axis=0)), 0, size).astype(int)
    width, height = high - low
    if width < 1 or height < 1:
        return disc, opening
    # Drawn finer within the eye's bounds and averaged: at 64 pixels an iris has the size of one.
    finer = max(2, -(-_FINE_EYE // int(max(width, height))))
    fragments = rasterize_perspective(
        points, model.triangles, focal * finer, (centre - low) * finer, height * finer, width * finer, cull=True
    )
    seen = (model.parts == part)[fragments.triangle] & (fragments.triangle >= 0)
    pixels, cosine = gather(fragments, model.iris_cosine[:, None], model.triangles, seen)
    iris = np.zeros(seen.size, np.uint8)
    iris[pixels[cosine[:, 0] > model.iris_limit]] = 255
    place = (slice(low[1], high[1]), slice(low[0], high[0]))
    for target, fine in ((disc, iris.reshape(seen.shape)), (opening, seen.astype(np.uint8) * 255)):
        target[place] = cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    return disc, opening
