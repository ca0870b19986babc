"""What the two ControlNets see: the conditions of each stage, and the degradation used in training."""

from collections.abc import Iterable

import cv2
import numpy as np

OUTLINES_WINDOW = 3  # Consecutive geometry renders that stage one sees; the paper leaves the number open.


def condition_spec(window: int) -> dict:
    """What an avatar records about its conditions."""
    return {
        "outlines": {"window": window, "channels": 3 * window, "order": ["geometry"] * window},
        "details": {"channels": 9, "order": ["parsing", "geometry", "iris"]},
    }


def window_indices(shots: np.ndarray, window: int) -> np.ndarray:
    """Frame numbers int [n, window] of the frames n-window+1 .. n, clamped to the first frame of n's shot.

    Args:
        shots: int [n], the shot of each frame; a run of equal numbers is a shot.
    """
    shots = np.asarray(shots)
    frames = np.arange(len(shots))
    starts = np.concatenate([[True], shots[1:] != shots[:-1]])[: len(shots)]
    first = np.maximum.accumulate(np.where(starts, frames, 0))
    return np.maximum(frames[:, None] + np.arange(1 - window, 1), first[:, None])


def outlines_condition(geometry: np.ndarray, shots: np.ndarray, window: int) -> np.ndarray:
    """Stage one's condition uint8 [n, S, S, 3 * window], oldest first, of `geometry` uint8 [n, S, S, 3]."""
    return _joined(geometry[indices] for indices in window_indices(shots, window))


def details_condition(parsing: np.ndarray, geometry: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """Stage two's condition uint8 [n, S, S, 9] of three uint8 [n, S, S, 3]."""
    return _joined(zip(parsing, geometry, iris, strict=True))


def _joined(frames: Iterable[Iterable[np.ndarray]]) -> np.ndarray:
    """The channels of each frame's images uint8 [S, S, 3], one image after the other."""
    # Ten times as fast as NumPy's concatenation, which copies three bytes at a time.
    return np.stack([cv2.merge(list(images)) for images in frames])


def degrade_parsing(rng: np.random.Generator, parsing: np.ndarray) -> np.ndarray:
    """Makes a true parsing map look like one that stage one made: moved by up to 1/256 of its width, edges blurred.

    Args:
        rng: the source of all randomness.
        parsing: palette colours uint8 [S, S, 3].
    """
    height, width = parsing.shape[:2]
    shift = rng.uniform(-1, 1, size=2) * width / 256
    sigma = rng.uniform(0, 1.2)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(parsing, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(moved, (0, 0), sigma) if sigma > 0.2 else moved
