"""The frames that previews and round trips show: of all captures together, as many of each as its share."""

from collections.abc import Sequence

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.training.views import Views, plain_views

PREVIEW_FRAMES = 4


def held_out_split(captures: Sequence[Capture]) -> str:
    """Which split's frames to look at while training: "test", of captures without one "train"."""
    return "test" if any(len(capture.test_indices) for capture in captures) else "train"


def held_out(captures: Sequence[Capture]) -> Views:
    """The frames of `held_out_split`, as they are."""
    split = held_out_split(captures)
    return plain_views(captures, [getattr(capture, f"{split}_indices") for capture in captures])


def spread(views: Views, count: int) -> Views:
    """`count` of `views`, evenly spread."""
    return views[np.linspace(0, len(views) - 1, count).round().astype(int)]
