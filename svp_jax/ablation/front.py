"""Which points of an ablation no other one beats, and which of them is best."""

from collections.abc import Sequence

import numpy as np

# Of the best picture's distance from the reference, what smoothness may cost; our choice.
TOLERANCE = 0.02


def pareto_front(costs: np.ndarray) -> np.ndarray:
    """bool [N]: no other point is as good in both and better in one.

    Args:
        costs: float [N, 2], finite; less is better. Equal points are on the front together or not at all.
    """
    as_good = (costs[None] <= costs[:, None]).all(-1)
    better = (costs[None] < costs[:, None]).any(-1)
    return ~(as_good & better).any(1)


def best_point(smoothness: Sequence[float], distance: Sequence[float]) -> int:
    """The number of the smoothest point whose pictures are hardly worse than the best ones.

    That is the least `smoothness` of those whose `distance` is at most (1 + TOLERANCE) times the least one; of equal
    ones the least distance, then the first. It lies on the front. A rule that weighs both after scaling them to the
    front's extent would depend on how far the grid reaches into weights that nobody wants; this one does not.

    Args:
        smoothness, distance: of N points, finite; less is better, 0 the least.
    """
    distance = np.asarray(distance)
    near = distance <= (1 + TOLERANCE) * distance.min()
    # The last key counts first.
    order = np.lexsort((distance, smoothness, ~near))
    return int(order[0])
