"""Parsing maps: a parser's coarse regions, cleaned, with the face and its parts drawn from the landmarks."""

import cv2
import numpy as np

from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.labels import LABEL_INDEX
from svp_jax.face.parsers import COARSE, SEGMENTER
from svp_jax.model_files import how_to_get

_TO_LABEL = np.array([LABEL_INDEX[name] for name in COARSE], np.uint8)
_CLOTHES, _HAIR, _SKIN, _FACE = (LABEL_INDEX[name] for name in ("clothes", "hair", "skin", "face"))
SPECK = 0.002  # Of the picture; smaller islands of hair or clothes are the parser's noise.
HOLE = 0.004  # Of the picture; smaller gaps inside the person are closed.

LANDMARKS_ONLY = (
    "no parser: the parsing maps are drawn from the landmarks alone; hair and neck are guessed shapes, and "
    f"clothes, ears, beard and glasses are missing; for better avatars get {SEGMENTER} ({how_to_get(SEGMENTER)}), "
    "or give a parser with --parser"
)


def parsing_labels(scores: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Labels uint8 [S, S] of one frame.

    Args:
        scores: float [S, S, 6] of `parsers.COARSE`, the largest wins.
        landmarks: [478, 3] in pixels of the picture.
    """
    size = len(scores)
    face = mesh.region(landmarks, mesh.FACE_OVAL, size) > 127
    labels = _TO_LABEL[scores.argmax(axis=-1)]
    for label in (_CLOTHES, _HAIR):
        _drop_specks(labels, label)
    labels[~_component_with(labels > 0, face)] = 0
    _close_holes(labels)
    # Inside the oval all is face, but hair that hangs over the forehead, glasses and beard stay. The oval ends
    # below the hairline: skin above the brows is forehead.
    brows = landmarks[[*mesh.RIGHT_BROW, *mesh.LEFT_BROW], 1].min()
    forehead = np.arange(size)[:, None] + 0.5 < brows
    labels[(labels == _SKIN) & forehead & face.any(axis=0)] = _FACE
    kept = (labels == _HAIR) & forehead | np.isin(labels, (LABEL_INDEX["glasses"], LABEL_INDEX["beard"]))
    labels[face & ~kept] = _FACE
    mesh.draw_parts(labels, landmarks)
    return labels


def guessed_scores(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Scores as a parser's, float32 [size, size, 6], from the landmarks alone: a cap of hair and a neck.

    The shapes hang on a few rigid landmarks, so that they follow the head; `LANDMARKS_ONLY` says what is missing.
    """
    points = landmarks[:, :2]
    top, chin, right, left = points[10], points[152], points[234], points[454]
    down, across = chin - top, left - right
    scores = np.zeros((size, size, len(COARSE)), np.float32)
    scores[..., 0] = 0.5
    middle = (top + chin) / 2
    below = np.array([0, size], float)
    corners = [middle - 0.36 * across, middle + 0.36 * across]
    neck = mesh.coverage(np.array([*corners, corners[1] + below, corners[0] + below]), size) > 127
    # An ellipse about the upper head; the part below the ears is left to the neck.
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    centre = top + 0.22 * down
    ring = centre + 0.64 * np.cos(angles)[:, None] * across + 0.50 * np.sin(angles)[:, None] * down
    hair = mesh.coverage(ring, size) > 127
    scores[neck, COARSE.index("skin")] = 0.8
    scores[hair, COARSE.index("hair")] = 1.0
    face = mesh.region(landmarks, mesh.FACE_OVAL, size) > 127
    scores[face, COARSE.index("hair")] = 0
    scores[face, COARSE.index("skin")] = 1.0
    return scores


def smooth_scores(before: np.ndarray | None, now: np.ndarray, after: np.ndarray | None) -> np.ndarray:
    """Scores averaged with both neighbours in time (1, 2, 1) against flicker at edges; None: no neighbour.

    A neighbour that is missing on one side is left out on the other too, so that nothing moves in time.
    """
    if before is None or after is None:
        return now
    return 0.25 * before + 0.5 * now + 0.25 * after


def _component_with(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected part of `mask` or `seed` that holds `seed`."""
    _, numbers = cv2.connectedComponents((mask | seed).astype(np.uint8), connectivity=4)
    inside = numbers[seed]
    return numbers == np.bincount(inside).argmax() if len(inside) else np.zeros_like(mask)


def _drop_specks(labels: np.ndarray, label: int) -> None:
    _, numbers, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=4)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < SPECK * labels.size)
    _take_nearest(labels, np.isin(numbers, small[small > 0]))


def _close_holes(labels: np.ndarray) -> None:
    _, numbers, stats, _ = cv2.connectedComponentsWithStats((labels == 0).astype(np.uint8), connectivity=4)
    x, y, width, height, area = stats.T
    touches_edge = (x == 0) | (y == 0) | (x + width == len(labels)) | (y + height == len(labels))
    holes = np.flatnonzero((area < HOLE * labels.size) & ~touches_edge)
    _take_nearest(labels, np.isin(numbers, holes[holes > 0]))


def _take_nearest(labels: np.ndarray, where: np.ndarray) -> None:
    """Replaces the labels `where` by the nearest of the others, in place."""
    if not where.any() or where.all():
        return
    _, nearest = cv2.distanceTransformWithLabels(where.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label_of = np.zeros(nearest.max() + 1, np.uint8)
    label_of[nearest[~where]] = labels[~where]
    labels[where] = label_of[nearest[where]]
