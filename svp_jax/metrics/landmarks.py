"""Whether a video's landmarks follow a driver's, without a tracker: local matching of picture patches."""

import cv2
import numpy as np


def landmark_shift(
    frame: np.ndarray, reference_frame: np.ndarray, landmarks: np.ndarray, patch: int, search: int
) -> np.ndarray:
    """Where the surroundings of each landmark of `reference_frame` are found in `frame`.

    Patches of gradient magnitude are compared by normalised cross-correlation, so that another skin or hair
    colour matters little.

    Args:
        frame, reference_frame: uint8 [H, W, 3].
        landmarks: float [L, 2] (x, y) pixels of `reference_frame`; pixel centres lie at integer + 0.5.
        patch: odd side of the compared square, in pixels.
        search: largest shift that is tried, in pixels, along each axis.

    Returns:
        float [L, 2]: (x, y) shift in whole pixels, `frame` minus `reference_frame`; NaN where the patch or
        its search window leaves the picture, or has no structure in one of the two.
    """
    if frame.shape != reference_frame.shape:
        raise ValueError(f"frame is {frame.shape}, reference_frame {reference_frame.shape}: must be equal")
    if patch < 3 or patch % 2 == 0 or search < 1:
        raise ValueError(f"patch is {patch}, search {search}; allowed: an odd patch from 3, a search from 1")
    gradient, reference_gradient = _gradient_magnitude(frame), _gradient_magnitude(reference_frame)
    height, width = gradient.shape
    reach = patch // 2 + search
    shifts = np.full((len(landmarks), 2), np.nan)
    for number, (x, y) in enumerate(landmarks):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        column, row = int(np.floor(x)), int(np.floor(y))
        if not (reach <= column < width - reach and reach <= row < height - reach):
            continue
        template = _square(reference_gradient, row, column, patch // 2)
        window = _square(gradient, row, column, reach)
        if template.std() < 1e-3 or window.std() < 1e-3:
            continue
        scores = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
        best_row, best_column = np.unravel_index(np.argmax(scores), scores.shape)
        shifts[number] = best_column - search, best_row - search
    return shifts


def _gradient_magnitude(image: np.ndarray) -> np.ndarray:
    """float32 [H, W], lightly blurred so that noise does not decide."""
    gray = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))


def _square(image: np.ndarray, row: int, column: int, reach: int) -> np.ndarray:
    return image[row - reach : row + reach + 1, column - reach : column + reach + 1]
