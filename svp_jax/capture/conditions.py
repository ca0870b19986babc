"""The condition images of a capture's frames, as training makes them and rendering does."""

from typing import Protocol

import numpy as np

from svp_jax.face.conditions import details_condition, outlines_condition, window_indices


class Drawn(Protocol):
    """Frames with a face model drawn: a `Capture`, or what moves an avatar in its place.

    Attributes:
        shot: int [N].
    """

    shot: np.ndarray

    def geometry(self, indices) -> np.ndarray:
        """Coloured normals, uint8 [n, S, S, 3]."""
        ...

    def iris(self, indices) -> np.ndarray:
        """Iris maps, uint8 [n, S, S, 3]."""
        ...


def outlines_of(source: Drawn, frames: np.ndarray, window: int) -> np.ndarray:
    """Stage I's condition uint8 [n, S, S, 3 * window] of the frames int [n], in any order.

    The window of a frame reaches back over those before it in its shot, whether they are among `frames` or not.
    """
    needed = np.unique(window_indices(source.shot, window)[frames])
    stacked = outlines_condition(source.geometry(needed), source.shot[needed], window)
    return stacked[np.searchsorted(needed, frames)]


def details_of(source: Drawn, frames: np.ndarray, parsing: np.ndarray) -> np.ndarray:
    """Stage II's condition uint8 [n, S, S, 9] of the frames int [n], with the maps `parsing` uint8 [n, S, S, 3]."""
    return details_condition(parsing, source.geometry(frames), source.iris(frames))
