"""Which points no other one beats, and which of them is best."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.ablation.front import TOLERANCE, best_point, pareto_front

# Few values, so that many are equal.
COST = st.sampled_from([0.0, 0.01, 0.0102, 0.02, 0.5, 1.0]) | st.floats(0, 1)
COSTS = st.lists(st.tuples(COST, COST), min_size=1, max_size=30)


@given(COSTS)
def test_no_point_on_the_front_is_dominated_and_all_others_are(costs):
    on_front = pareto_front(np.array(costs))
    for (a, b), kept in zip(costs, on_front, strict=True):
        beaten = any(c <= a and d <= b and (c < a or d < b) for c, d in costs)
        assert kept != beaten
    assert on_front.any()


@given(COSTS)
def test_the_best_point_is_on_the_front_near_the_best_pictures_and_smoothest_there(costs):
    costs = np.array(costs)
    best = best_point(*costs.T)
    assert pareto_front(costs)[best]
    limit = (1 + TOLERANCE) * costs[:, 1].min()
    near = costs[costs[:, 1] <= limit]
    assert costs[best, 1] <= limit and costs[best, 0] == near[:, 0].min()


@pytest.mark.parametrize(
    ("smoothness", "distance", "best"),
    [
        ([0.03, 0.02, 0.01], [0.100, 0.101, 0.110], 1),  # the last one costs 10 %
        ([0.03, 0.02, 0.01], [0.100, 0.101, 0.102], 2),
        ([0.02, 0.02, 0.02], [0.101, 0.100, 0.100], 1),  # of equal ones the first
        ([0.5], [0.0], 0),
    ],
)
def test_constructed(smoothness, distance, best):
    assert best_point(smoothness, distance) == best
