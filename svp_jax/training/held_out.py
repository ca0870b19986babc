"""The frames that previews and round trips show, and that scores are of."""

import numpy as np

from svp_jax.capture.capture import Capture

PREVIEW_FRAMES = 4
# Of previews; a multiple of the above.
SCORED_FRAMES = 8


def held_out_split(capture: Capture) -> str:
    """Which split's frames to look at while training: "test", of a capture without one "train"."""
    return "test" if len(capture.test_indices) else "train"


def held_out(capture: Capture) -> np.ndarray:
    """The frames of `held_out_split`, int [n]."""
    return capture.test_indices if held_out_split(capture) == "test" else capture.train_indices


def spread(indices: np.ndarray, count: int) -> np.ndarray:
    """`count` of `indices`, evenly spread."""
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]


def scored_frames(capture: Capture) -> np.ndarray:
    """`SCORED_FRAMES` held-out frames, evenly spread; `PREVIEW_FRAMES` where there are fewer."""
    indices = held_out(capture)
    return spread(indices, SCORED_FRAMES if len(indices) >= SCORED_FRAMES else PREVIEW_FRAMES)
