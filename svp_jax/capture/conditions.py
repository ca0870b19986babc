"""The condition images of a capture's frames, as training makes them and rendering does."""

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.face.conditions import details_condition, outlines_condition, window_indices


def outlines_of(capture: Capture, frames: np.ndarray, window: int) -> np.ndarray:
    """Stage I's condition uint8 [n, S, S, 3 * window] of the frames int [n], in any order.

    The window of a frame reaches back over those before it in its shot, whether they are among `frames` or not.
    """
    needed = np.unique(window_indices(capture.shot, window)[frames])
    stacked = outlines_condition(capture.geometry(needed), capture.shot[needed], window)
    return stacked[np.searchsorted(needed, frames)]


def details_of(capture: Capture, frames: np.ndarray, parsing: np.ndarray) -> np.ndarray:
    """Stage II's condition uint8 [n, S, S, 9] of the frames int [n], with the maps `parsing` uint8 [n, S, S, 3]."""
    return details_condition(parsing, capture.geometry(frames), capture.iris(frames))
