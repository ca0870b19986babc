"""The frames that previews and round trips show."""

import numpy as np

from svp_jax.capture.capture import Capture

PREVIEW_FRAMES = 4


def held_out(capture: Capture) -> np.ndarray:
    """The frames to look at while training, int [n]: the test split, of a capture without one the training frames."""
    return capture.test_indices if len(capture.test_indices) else capture.train_indices


def spread(indices: np.ndarray, count: int) -> np.ndarray:
    """`count` of `indices`, evenly spread."""
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]
