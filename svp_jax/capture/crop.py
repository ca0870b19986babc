"""The one square that is cut out of every frame of a clip."""

from dataclasses import dataclass

import cv2
import numpy as np

# Of the face's height (brow ridge mesh top to chin): room for hair above, for neck and shoulders below.
ABOVE, BELOW, BESIDE = 0.55, 0.65, 0.45


@dataclass(frozen=True)
class Crop:
    """A square of the source in whole pixels, scaled to `size`; it may reach over the frame's edge."""

    left: int
    top: int
    side: int
    size: int

    def image(self, frame: np.ndarray, size: int | None = None) -> np.ndarray:
        """The square of `frame` uint8 [H, W, 3] as uint8 [size, size, 3]; outside, the edge repeats."""
        height, width = frame.shape[:2]
        x0, y0, x1, y1 = self.left, self.top, self.left + self.side, self.top + self.side
        inside = frame[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
        outside = (max(0, -y0), max(0, y1 - height), max(0, -x0), max(0, x1 - width))
        if any(outside):
            inside = cv2.copyMakeBorder(inside, *outside, cv2.BORDER_REPLICATE)
        size = size or self.size
        method = cv2.INTER_AREA if size < self.side else cv2.INTER_CUBIC
        return cv2.resize(inside, (size, size), interpolation=method)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3] of the source frame in pixels of the crop; depth is scaled as x and y are."""
        return ((points - np.array([self.left, self.top, 0])) * (self.size / self.side)).astype(np.float32)


def choose_crop(landmarks: np.ndarray, window: tuple[int, int, int, int], size: int, margin: float = 1.0) -> Crop:
    """A square that holds the head with hair, neck and shoulders in all frames, inside `window` if it can.

    Args:
        landmarks: [n, L, 3] of all usable frames, in pixels of the source.
        window: left, top, right, bottom of the frame's picture without black bars.
        size: of the result.
        margin: factor on the room around the face.
    """
    low, high = landmarks[..., :2].min(axis=1), landmarks[..., :2].max(axis=1)
    # Percentiles: a single bad frame must not widen the crop of the whole clip.
    left, top = np.percentile(low, 1, axis=0)
    right, bottom = np.percentile(high, 99, axis=0)
    face_width, face_height = np.median(high - low, axis=0)
    wanted = max(bottom - top + margin * (ABOVE + BELOW) * face_height, right - left + 2 * margin * BESIDE * face_width)
    held = 1.1 * max(bottom - top, right - left)
    room = min(window[2] - window[0], window[3] - window[1])
    # As large as wanted, but no larger than the picture, unless the faces themselves need it.
    side = round(min(wanted, max(room, held)))
    x = (left + right) / 2 - side / 2
    y = top - (side - (bottom - top)) * ABOVE / (ABOVE + BELOW)
    return Crop(_inside(x, side, window[0], window[2]), _inside(y, side, window[1], window[3]), side, size)


def _inside(start: float, side: int, low: int, high: int) -> int:
    """`start` moved as little as needed to lie within [low, high]; centred there where it does not fit."""
    if side >= high - low:
        return round((low + high - side) / 2)
    return round(min(max(start, low), high - side))


class BlackBars:
    """Finds rows and columns at the frame's edge that are black in every frame that is added."""

    def __init__(self, height: int, width: int):
        self._rows, self._columns = np.zeros(height, np.uint8), np.zeros(width, np.uint8)

    def add(self, image: np.ndarray) -> None:
        """Takes in one frame, uint8 [height, width, 3]."""
        np.maximum(self._rows, image.reshape(len(image), -1).max(axis=1), out=self._rows)
        np.maximum(self._columns, image.max(axis=0).max(axis=1), out=self._columns)

    def window(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the picture; the whole frame where all of it is black."""
        columns, rows = np.flatnonzero(self._columns > 24), np.flatnonzero(self._rows > 24)
        if not len(rows):
            return 0, 0, len(self._columns), len(self._rows)
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
