"""Smooth curves through keys that nothing overshoots: monotone cubic interpolation (PCHIP).

Fritsch, Carlson: Monotone piecewise cubic interpolation, 1980, with the slopes of Fritsch, Butland 1984, as in SciPy's
PchipInterpolator.
"""

import numpy as np


def held_curve(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values float64 [N] at the times `at` [N] of the curve through K keys.

    Before the first key and after the last the curve is constant. It rests there, as PCHIP with further keys of the
    same values on both sides would, so that nothing starts or stops with a jerk.

    Args:
        times: [K], strictly increasing, K at least 1. values: [K].
    """
    times, values, at = (np.asarray(array, np.float64) for array in (times, values, at))
    if len(times) == 1:
        return np.full(len(at), values[0])
    slopes = _slopes(times, values)
    left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    right = left + 1
    step = times[right] - times[left]
    s = np.clip((at - times[left]) / step, 0, 1)
    curve = values[left] + (values[right] - values[left]) * s**2 * (3 - 2 * s)
    curve += step * s * (1 - s) * (slopes[left] * (1 - s) - slopes[right] * s)
    # The curve is monotone between keys; what rounding adds is cut off.
    low, high = np.minimum(values[left], values[right]), np.maximum(values[left], values[right])
    return np.where(s == 1, values[right], np.clip(curve, low, high))


def _slopes(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[K], 0 at both ends and where the values turn; else a weighted harmonic mean of the slopes on both sides."""
    steps, rises = np.diff(times), np.diff(values) / np.diff(times)
    before, after = rises[:-1], rises[1:]
    weight_before, weight_after = steps[:-1] + 2 * steps[1:], 2 * steps[:-1] + steps[1:]
    goes_on = np.sign(before) * np.sign(after) > 0
    inverse = weight_before / np.where(goes_on, before, 1) + weight_after / np.where(goes_on, after, 1)
    slopes = np.zeros(len(times))
    slopes[1:-1] = np.where(goes_on, (weight_before + weight_after) / np.where(goes_on, inverse, 1), 0)
    return slopes
