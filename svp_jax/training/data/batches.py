"""Which samples make batch t, and their randomness: functions of (seed, t, row) alone.

So a resumed run sees the same data, and each process of a run on several hosts makes the rows of its own devices.
"""

import numpy as np


def batch_indices(seed: int, step: int, count: int, batch_size: int) -> np.ndarray:
    """Sample numbers int64 [batch_size] of batch `step`: every epoch is a new shuffle of 0 .. count-1."""
    positions = step * batch_size + np.arange(batch_size)
    result = np.empty(batch_size, np.int64)
    for epoch in np.unique(positions // count):
        order = np.random.default_rng((seed, int(epoch))).permutation(count)
        mask = positions // count == epoch
        result[mask] = order[positions[mask] % count]
    return result


def sample_rng(seed: int, step: int, row: int) -> np.random.Generator:
    """The generator of all host-side randomness of row `row` of batch `step` (degraded map, dropped prompt)."""
    # NumPy fills shorter seeds up with zeros: the last number sets it apart from the shuffles' and the copies'.
    return np.random.default_rng((seed, step, row, 1))
