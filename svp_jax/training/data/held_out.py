"""The held-out frames that previews show and scores are of: of all captures together, of each its share."""

from collections.abc import Sequence

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.training.data.views import Views, plain_views

PREVIEW_FRAMES = 4
# Of previews; a multiple of the above.
SCORED_FRAMES = 8


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


def scored_frames(captures: Sequence[Capture]) -> Views:
    """`SCORED_FRAMES` held-out frames, evenly spread; `PREVIEW_FRAMES` where there are fewer."""
    views = held_out(captures)
    return spread(views, SCORED_FRAMES if len(views) >= SCORED_FRAMES else PREVIEW_FRAMES)
