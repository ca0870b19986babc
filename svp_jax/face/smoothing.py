"""Landmarks smoothed in time without lag: what the picture itself moves is kept, the rest is averaged away.

A plain filter cannot tell a tracker's tremble from a nod or a blink. So the motion of each landmark is also
measured in the picture (Lucas-Kanade optical flow). Landmarks minus that motion hold the tracker's noise and
little else; a symmetric Gaussian over frames averages it, and the motion is added back. Where flow and
tracker disagree by more than noise can explain (lids in a blink, lips, occlusion), the tracker's own step
counts as motion, so that blinks and lip closures keep their full height.
"""

from collections import deque

import cv2
import numpy as np

SIGMA = 1.5  # Frames; of the Gaussian that averages the tracker's noise.
TRUSTED_STEP = 0.012  # Of the face's width; larger disagreements are motion that the flow missed.
LEAP = 0.35  # Of the face's width; a face that moves further between two frames is in another shot.
WORKING_WIDTH = 256  # Pixels; the face is scaled down to about this before the flow is measured.


class MotionMeter:
    """Measures from frame to frame how the picture moves at the landmarks, and where it is cut."""

    def __init__(self):
        self._gray: np.ndarray | None = None
        self._points: np.ndarray | None = None
        self._small: np.ndarray | None = None
        self._scale: float | None = None
        self._changes: deque[float] = deque(maxlen=25)

    def cut(self, image: np.ndarray) -> bool:
        """Whether a cut lies before this frame: it changes coarsely, and far more than frames did lately.

        The limits, 0.06 of full scale and 5 times the median of the last changes, are our own.
        """
        small = cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        before, self._small = self._small, small
        if before is None:
            return False
        change = float(np.abs(small - before).mean())
        usual = np.median(self._changes) if self._changes else 0.0
        self._changes.append(change)
        return bool(change > 0.06 and change > 5 * usual)

    def motion(self, image: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray | None:
        """Displacement float32 [L, 2] in pixels since the frame before, not a number where it is uncertain.

        Args:
            image: uint8 [H, W, 3].
            landmarks: [L, 3] in pixels, None where no face was found.

        Returns:
            None where this frame or the one before has no face.
        """
        if landmarks is None:
            self._points = None
            return None
        if self._scale is None:
            # Fixed by the first face: the flow needs two frames of one size.
            self._scale = min(1.0, WORKING_WIDTH / max(1.0, np.ptp(landmarks[:, 0])))
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        gray = cv2.resize(gray, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_AREA)
        points = (landmarks[:, None, :2] * self._scale).astype(np.float32)
        # Our pixel centres lie at integer + 0.5, OpenCV's at integers.
        points -= 0.5
        before, start = self._gray, self._points
        self._gray, self._points = gray, points
        if start is None:
            return None
        settings = {"winSize": (21, 21), "maxLevel": 3}
        end, found, _ = cv2.calcOpticalFlowPyrLK(before, gray, start, None, **settings)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(gray, before, end, None, **settings)
        sure = (found & found_back).ravel().astype(bool)
        sure &= np.linalg.norm((back - start)[:, 0], axis=1) < 0.5
        return np.where(sure[:, None], (end - start)[:, 0] / self._scale, np.nan).astype(np.float32)


def find_shots(landmarks: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Shot numbers int32 [N]: -1 without a face, a new number after every cut, gap and leap of the face.

    Args:
        landmarks: [N, L, 3], not a number where no face was found.
        cut: bool [N], the picture changed completely before this frame.
    """
    found = np.isfinite(landmarks[:, 0, 0])
    # A cut between two takes before one background changes few pixels, but the face leaps.
    middle, width = landmarks[..., :2].mean(axis=1), np.ptp(landmarks[..., 0], axis=1)
    with np.errstate(invalid="ignore"):
        leap = np.linalg.norm(np.diff(middle, axis=0, prepend=middle[:1]), axis=1) > LEAP * width
    follows = np.concatenate([[False], found[:-1]])[: len(found)]
    begins = found & (np.asarray(cut, bool) | leap | ~follows)
    return np.where(found, np.cumsum(begins) - 1, -1).astype(np.int32)


def smooth_landmarks(landmarks: np.ndarray, motion: np.ndarray, shot: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """The landmarks float32 [N, L, 3] with the tracker's noise averaged away, shot by shot.

    Args:
        landmarks: [N, L, 3] in pixels.
        motion: [N, L, 2], displacement since the frame before, not a number where unknown.
        shot: int [N]; frames with -1 come back unchanged.
        sigma: of the Gaussian, in frames; 0 changes nothing.
    """
    smoothed = np.array(landmarks, np.float32)
    if sigma == 0:
        return smoothed
    for number in range(shot.max(initial=-1) + 1):
        frames = np.flatnonzero(shot == number)
        points = landmarks[frames].astype(np.float64)
        path = _motion_path(points, motion[frames])
        smoothed[frames] = gaussian_over_time(points - path, sigma) + path
    return smoothed


def _motion_path(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Summed motion [n, L, 3] of one shot: the flow where it is trusted, the tracker's own step elsewhere."""
    path = np.zeros_like(points)
    if len(points) > 1:
        step = np.diff(points[..., :2], axis=0)
        limit = TRUSTED_STEP * np.median(np.ptp(points[..., 0], axis=1))
        with np.errstate(invalid="ignore"):
            trusted = np.linalg.norm(step - motion[1:], axis=-1, keepdims=True) < limit
        path[1:, :, :2] = np.cumsum(np.where(trusted, motion[1:], step), axis=0)
    return path


def gaussian_over_time(values: np.ndarray, sigma: float) -> np.ndarray:
    """`values` [n, ...] averaged along the first axis, weights renormalised at both ends."""
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    count = len(values)
    total = np.zeros(values.shape)
    norm = np.zeros(count)
    for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
        first, last = max(0, -offset), min(count, count - offset)
        if first < last:
            total[first:last] += weight * values[first + offset : last + offset]
            norm[first:last] += weight
    return total / norm.reshape(-1, *[1] * (values.ndim - 1))


def nearest_known(known: np.ndarray, places: np.ndarray) -> np.ndarray:
    """For each of `places` [m], counted in frames, where in `known`, int [n] and rising, the nearest stands: int [m].

    Of two that are as near the earlier one.
    """
    # Between two known frames the share of the way to the second, rounded; a table of all pairs would be large.
    share = np.interp(places, known, np.arange(len(known)))
    return np.ceil(share - 0.5).astype(int)


def jitter(landmarks: np.ndarray, shot: np.ndarray, motion: np.ndarray | None = None) -> float:
    """Mean absolute second difference over time of x and y, in the landmarks' unit; 0 for very short shots.

    Args:
        landmarks: [N, L, 2 or 3].
        motion: where given, [N, L, 2]: the motion seen in the picture is taken off first, and steps where it
            is not trusted are left out of it, so that what remains is the tracker's tremble alone.
    """
    differences = []
    for number in range(shot.max(initial=-1) + 1):
        frames = np.flatnonzero(shot == number)
        points = landmarks[frames].astype(np.float64)
        if motion is not None:
            points = points - _motion_path(points, motion[frames])
        if len(frames) >= 3:
            differences.append(np.abs(np.diff(points[..., :2], n=2, axis=0)).reshape(len(frames) - 2, -1))
    return float(np.concatenate(differences).mean()) if differences else 0.0
