"""How far two methods are apart, and whether that is more than chance, from scores of the same frames."""

import itertools

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


def differences(per_frame: dict[str, dict], frame_rate: float) -> list[dict]:
    """Of each two methods, in each region and metric: the mean of a - b over frames with its interval.

    Args:
        per_frame: method -> region -> metric -> float [N]. Frames where one of the two is not finite do not count.

    Returns:
        dictionaries of metric, region, a, b, difference, low and high; None where less than two frames count.
    """
    found = []
    for a, b in itertools.combinations(per_frame, 2):
        for region, metrics in per_frame[a].items():
            for metric, values in metrics.items():
                if metric.endswith("_reference"):
                    continue
                with np.errstate(invalid="ignore"):
                    apart = values - per_frame[b][region][metric]
                mean, low, high = interval(apart[np.isfinite(apart)], frame_rate)
                pair = {"metric": metric, "region": region, "a": a, "b": b}
                found.append(pair | {"difference": mean, "low": low, "high": high})
    return found


def interval(values: np.ndarray, frame_rate: float) -> tuple[float | None, float | None, float | None]:
    """Mean of `values` float [n], of frames in order, with the bounds of its 95 % interval.

    By the circular block bootstrap (Politis and Romano 1992): neighbouring frames are alike, so blocks of them are
    drawn. A block is a second, but at most a tenth of the frames.
    """
    count = len(values)
    if not count:
        return None, None, None
    if count < 2:
        return float(values.mean()), None, None
    block = block_length(count, frame_rate)
    blocks = -(-count // block)
    # Sums of `block` values from each place on, around the end.
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: block - 1]]))])
    sums = sums[block:] - sums[:-block]
    rng = np.random.default_rng(SEED)
    drawn = np.array([sums[rng.integers(0, count, blocks)].sum() for _ in range(RESAMPLES)]) / (blocks * block)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)


def block_length(count: int, frame_rate: float) -> int:
    """Frames of a block."""
    return max(1, min(round(frame_rate), count // 10))
