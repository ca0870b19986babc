"""The overlay video of a capture: five pictures side by side to look at."""

import cv2
import numpy as np

TILE = 256
WIDTH = 5 * TILE


def overlay_row(
    frame: np.ndarray, parsing: np.ndarray, geometry: np.ndarray, landmarks: np.ndarray | None
) -> np.ndarray:
    """Frame, frame under parsing and landmarks, parsing, geometry, frame under geometry: uint8 [TILE, WIDTH, 3].

    Args:
        frame, parsing, geometry: uint8 [S, S, 3].
        landmarks: [478, 3] in pixels; None draws a red border: no face here.
    """
    size = len(frame)
    tiles = [
        _tile(frame, cv2.INTER_LINEAR),
        _tile(parsing, cv2.INTER_NEAREST),
        _tile(geometry, cv2.INTER_LINEAR),
    ]
    mixed = cv2.addWeighted(tiles[0], 0.6, tiles[1], 0.4, 0)
    if landmarks is None:
        cv2.rectangle(mixed, (0, 0), (TILE - 1, TILE - 1), (255, 0, 0), 4)
    else:
        for x, y in landmarks[:, :2] * (TILE / size) * 16:
            cv2.circle(mixed, (round(float(x)) - 8, round(float(y)) - 8), 12, (255, 255, 0), -1, cv2.LINE_AA, 4)
    meshed = cv2.addWeighted(tiles[0], 0.5, tiles[2], 0.5, 0)
    return np.hstack([tiles[0], mixed, tiles[1], tiles[2], meshed])


def _tile(image: np.ndarray, method: int) -> np.ndarray:
    return cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA if len(image) > TILE else method)
