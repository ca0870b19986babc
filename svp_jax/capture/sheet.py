"""The contact sheet: what was compared, side by side, spread in time."""

import functools

import cv2
import numpy as np

from svp_jax.capture.images import caption

MAX_SIDE = 256  # larger pictures are shown smaller
LABEL_WIDTH, CAPTION_HEIGHT = 132, 24
PAPER, INK = 255, 30  # grey levels


def contact_sheet(rows: dict[str, list[np.ndarray]], captions: list[str]) -> np.ndarray:
    """One labelled row of pictures per entry, under one line of captions.

    Args:
        rows: label -> as many pictures uint8 [H, W, 3] as there are captions, all of one size.
        captions: above the columns.

    Returns:
        uint8 [height, width, 3].
    """
    field = functools.partial(caption, paper=PAPER, ink=INK)
    height, width = next(iter(rows.values()))[0].shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    top = [field("", LABEL_WIDTH, CAPTION_HEIGHT), *(field(c, size[0], CAPTION_HEIGHT) for c in captions)]
    lines = [np.concatenate(top, axis=1)]
    for label, pictures in rows.items():
        if len(pictures) != len(captions):
            raise ValueError(f"rows[{label!r}] has {len(pictures)} pictures for {len(captions)} captions")
        shown = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
        lines.append(np.concatenate([field(label, LABEL_WIDTH, size[1]), *shown], axis=1))
    return np.concatenate(lines)
