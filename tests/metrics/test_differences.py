"""Differences of methods: their means, and how sure they are."""

import numpy as np
import pytest

from svp_jax.metrics.differences import block_length, differences, interval


def test_the_interval_of_independent_frames_is_the_usual_one():
    values = np.random.default_rng(1).normal(0.3, 2.0, 400)
    mean, low, high = interval(values, 1)
    assert mean == pytest.approx(values.mean())
    # 1.96 standard errors; 2000 resamples know a quantile to some percent.
    error = values.std() / 20
    assert high - mean == pytest.approx(1.96 * error, rel=0.1) and mean - low == pytest.approx(1.96 * error, rel=0.1)


def test_neighbours_that_are_alike_make_it_wider():
    """Of 40 stretches of ten equal frames there are 40 numbers, not 400."""
    values = np.random.default_rng(2).normal(size=40).repeat(10)
    _, low, high = interval(values, 25)
    _, independent_low, independent_high = interval(values, 1)
    error = values.std() / np.sqrt(40)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert independent_high - independent_low < 0.5 * (high - low)


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        noise = rng.normal(size=310)
        # Neighbours share two thirds.
        values = np.convolve(noise, np.ones(3), "valid")[:300]
        _, low, high = interval(values, 10)
        covered += low <= 0 <= high
    # 95 % by its name; blocks of a finite series fall a little short.
    assert 175 <= covered <= 199


@pytest.mark.parametrize(("count", "rate", "expected"), [(1000, 25, 25), (50, 25, 5), (9, 25, 1), (12000, 29.97, 30)])
def test_blocks(count, rate, expected):
    assert block_length(count, rate) == expected


def test_frames_that_are_not_defined_do_not_count():
    scores = {
        "a": {"full": {"psnr": np.array([np.inf, 30.0, np.nan, 32.0]), "flicker_reference": np.ones(4)}},
        "b": {"full": {"psnr": np.array([np.inf, 28.0, 29.0, 31.0]), "flicker_reference": np.ones(4)}},
        "c": {"full": {"psnr": np.full(4, np.nan), "flicker_reference": np.ones(4)}},
    }
    found = {(each["a"], each["b"]): each for each in differences(scores, 25.0)}
    assert found["a", "b"]["difference"] == 1.5 and found["a", "b"]["metric"] == "psnr"
    assert found["a", "c"] == {
        "metric": "psnr", "region": "full", "a": "a", "b": "c", "difference": None, "low": None, "high": None,
    }  # fmt: skip
    assert len(found) == 3
    assert interval(np.array([2.0]), 25) == (2.0, None, None)
