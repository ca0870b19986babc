"""Whether a picture shows the face that it should: places, expression, pose and parts, as a tracker sees them.

Result and reference are tracked and parsed alike, from pictures of one size, so that what the tracker gets wrong it
gets wrong in both. A capture's own tracking is not used: it is of the video before the crop, and smoothed in time; nor
are its parsing maps, which are averaged over neighbours and, of a synthetic capture, made by no parser at all.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.morphable.multi_pie import INNER, eye_distance, points_of
from svp_jax.face.parsers import SEGMENTER, Parser, default_parser, open_parser
from svp_jax.face.parsing import parsing_labels
from svp_jax.face.tracking import BLENDSHAPES, LANDMARKS, FaceTracker, PersonFollower, enlarged
from svp_jax.model_files import how_to_get

IDENTITY_LEFT_OUT = (
    "it needs a face recognition network whose licence allows this use, and none is chosen: the usual weights "
    "(InsightFace's) are for non-commercial research alone; no command fetches one"
)


@dataclass(frozen=True)
class Tracked:
    """What the tracker sees in one picture; NaN where there is no face.

    Attributes:
        landmarks: float32 [478, 3] in pixels of the picture, small depth near.
        blendshapes: float32 [52] in 0..1.
        rotation: float32 [3, 3], of the head, from MediaPipe's canonical face to camera space.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    rotation: np.ndarray

    @property
    def found(self) -> bool:
        return bool(np.isfinite(self.landmarks[0, 0]))


NOBODY = Tracked(
    np.full((LANDMARKS, 3), np.nan, np.float32),
    np.full(BLENDSHAPES, np.nan, np.float32),
    np.full((3, 3), np.nan, np.float32),
)


class PersonTracker:
    """Tracks one person through the pictures of one video, called in order, without smoothing in time.

    Pictures smaller than 512 pixels are enlarged, which makes landmarks three times as exact at 128 pixels.

    Args:
        tracker: for this video alone.
        frame_rate: frames a second.
        shots: int [N], of each frame the shot that it belongs to.
    """

    def __init__(self, tracker: FaceTracker, frame_rate: Fraction, shots: np.ndarray):
        self._tracker, self._frame_rate, self._shots = tracker, frame_rate, shots
        self._follower: PersonFollower | None = None

    def __call__(self, picture: np.ndarray, number: int) -> Tracked:
        """What a picture shows.

        Args:
            picture: uint8 [H, W, 3] RGB, all of one size. number: of the frame, rising by one.
        """
        height, width = picture.shape[:2]
        large = enlarged(picture)
        self._follower = self._follower or PersonFollower(large.shape[1], large.shape[0])
        cut = number > 0 and self._shots[number] != self._shots[number - 1]
        face = self._follower.pick(self._tracker.detect(large, float(number / self._frame_rate)), cut)
        if face is None:
            return NOBODY
        # Depth comes in units of the width.
        scale = np.array([width / large.shape[1], height / large.shape[0], width / large.shape[1]], np.float32)
        return Tracked(face.landmarks * scale, face.blendshapes, face.pose[:3, :3])


def landmark_distance(landmarks: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean distance of brows, eyes, nose and lips, in percent of the distance of the reference's outer eye corners.

    Args:
        landmarks, reference: [..., L, 2 or 3] in pixels, MediaPipe's 478 or the 70 of Multi-PIE.

    Returns:
        float64 [...]; NaN where either is.
    """
    ours, theirs = (points_of(points)[..., :2].astype(np.float64) for points in (landmarks, reference))
    distance = np.linalg.norm(ours - theirs, axis=-1)[..., INNER].mean(axis=-1)
    return 100 * distance / eye_distance(theirs)


def expression_distance(blendshapes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute difference of blendshape scores [..., 52] in 0..1, float64 [...]; NaN where either is."""
    return np.abs(np.asarray(blendshapes, np.float64) - reference).mean(axis=-1)


def pose_distance(rotation: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Angle in degrees, 0 to 180, of the turn between rotations [..., 3, 3], float64 [...]; NaN where either is."""
    turn = np.swapaxes(np.asarray(rotation, np.float64), -1, -2) @ reference
    # sin and cos of the angle, each twice: exact for small angles, where an arc cosine is not.
    axis = [turn[..., a, b] - turn[..., b, a] for a, b in ((2, 1), (0, 2), (1, 0))]
    cosine = np.trace(turn, axis1=-2, axis2=-1) - 1
    return np.degrees(np.arctan2(np.linalg.norm(axis, axis=0), cosine))


def parsing_agreement(labels: np.ndarray, reference: np.ndarray) -> float:
    """Mean over the labels in `reference` of the intersection over union of their pixels, 0 to 1.

    Args:
        labels, reference: integers of one shape, see `face.labels`. Several maps are counted together.
    """
    if labels.shape != reference.shape:
        raise ValueError(f"labels are {labels.shape}, reference {reference.shape}: they must have one shape")
    ratios = []
    for label in np.unique(reference):
        ours, theirs = labels == label, reference == label
        ratios.append((ours & theirs).sum() / (ours | theirs).sum())
    return float(np.mean(ratios))


@contextlib.contextmanager
def picture_parser(height: int, width: int) -> Iterator[tuple[Parser, tuple[Path, ...]]]:
    """(parser of such pictures, its files) for `parse_picture`; the same parser has to see result and reference.

    Raises:
        UserError: there is no parser, or it cannot be used; the pictures are not square.
    """
    if height != width:
        raise UserError(
            f"parsing agreement needs square pictures, these are {width} x {height}; score captures or renders"
        )
    with open_parser(default_parser()) as (_, parser, files):
        if parser is None:
            raise UserError(
                f"parsing agreement needs a parser, not landmarks alone: get {SEGMENTER}: {how_to_get(SEGMENTER)}"
            )
        # What is wrong with a parser it says at its first picture.
        parser(np.zeros((height, width, 3), np.uint8), height)
        yield parser, files


def parse_picture(parser: Parser, picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
    """Labels uint8 [S, S] of one picture, looked at by itself; None where its landmarks are NaN: it shows no face.

    Args:
        picture: uint8 [S, S, 3]. landmarks: [478, 3] in its pixels, of `PersonTracker`.
    """
    if not np.isfinite(landmarks).all():
        return None
    return parsing_labels(parser(picture, picture.shape[0]), landmarks)
