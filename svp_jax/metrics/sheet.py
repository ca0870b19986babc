"""The contact sheet: what was compared, side by side, spread in time."""

import cv2
import numpy as np

MAX_SIDE = 256  # larger pictures are shown smaller
LABEL_WIDTH, CAPTION_HEIGHT = 132, 24
BACKGROUND, INK = 255, (30, 30, 30)


def contact_sheet(rows: dict[str, list[np.ndarray]], captions: list[str]) -> np.ndarray:
    """One labelled row of pictures per entry, under one line of captions.

    Args:
        rows: label -> as many pictures uint8 [H, W, 3] as there are captions, all of one size.
        captions: above the columns.

    Returns:
        uint8 [height, width, 3].
    """
    height, width = next(iter(rows.values()))[0].shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    top = [_text("", LABEL_WIDTH, CAPTION_HEIGHT), *(_text(c, size[0], CAPTION_HEIGHT) for c in captions)]
    lines = [np.concatenate(top, axis=1)]
    for label, pictures in rows.items():
        if len(pictures) != len(captions):
            raise ValueError(f"rows[{label!r}] has {len(pictures)} pictures for {len(captions)} captions")
        shown = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
        lines.append(np.concatenate([_text(label, LABEL_WIDTH, size[1]), *shown], axis=1))
    return np.concatenate(lines)


def _text(text: str, width: int, height: int) -> np.ndarray:
    """`text` at the left of a plain field uint8 [height, width, 3], halfway down, made to fit."""
    field = np.full((height, width, 3), BACKGROUND, np.uint8)
    font, margin = cv2.FONT_HERSHEY_SIMPLEX, 4
    natural = cv2.getTextSize(text, font, 1.0, 1)[0][0]
    scale = min(0.45, (width - 2 * margin) / max(natural, 1))
    cv2.putText(field, text, (margin, height // 2 + 5), font, scale, INK, 1, cv2.LINE_AA)
    return field
