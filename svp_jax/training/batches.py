"""Which samples make batch t: a function of (seed, t) alone, so that a resumed run sees the same data."""

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


def batch_rng(seed: int, step: int) -> np.random.Generator:
    """The generator of all host-side randomness of batch `step` (degraded maps, dropped prompts)."""
    # The third number sets it apart from the shuffles, which are seeded with pairs.
    return np.random.default_rng((seed, step, 1))
