"""The axes of an ablation and their values."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.ablation import options
from svp_jax.ablation.grid import AXES, DEFAULT, read_grid, same_pictures
from svp_jax.errors import UserError

FIXED = {"current": 0.7, "previous": 0.3, "noise": 1.0, "tau": 0.5, "strength": 1.0, "steps": 4}
VALUES = {
    "current": st.floats(-2, 2),
    "previous": st.floats(-2, 2),
    "noise": st.floats(-2, 2),
    "tau": st.floats(0, 1),
    "strength": st.floats(0, 3),
    "steps": st.integers(1, 50),
}


@st.composite
def grids(draw):
    """axis -> values that differ in six digits."""
    names = draw(st.lists(st.sampled_from(AXES), min_size=1, max_size=4, unique=True))
    return {
        name: draw(st.lists(VALUES[name], min_size=1, max_size=3, unique_by=lambda value: f"{value:g}"))
        for name in names
    }


@given(grids())
def test_all_combinations_in_order(axes):
    grid = read_grid([f"{name}={'|'.join(map(repr, values))}" for name, values in axes.items()])
    assert grid.axes == axes and list(grid.axes) == list(axes) and not grid.rest
    points = grid.points(FIXED)
    assert [tuple(point[name] for name in axes) for point in points] == list(itertools.product(*axes.values()))
    for point in points:
        assert list(point) == list(AXES)
        assert all(point[name] == value for name, value in FIXED.items() if name not in axes)


def test_ranges_and_the_rest():
    grid = read_grid(["previous=0:0.6:4", "current=rest"])
    assert grid.axes == {"previous": [0.0, 0.2, 0.4, 0.6]} and grid.rest
    points = grid.points(FIXED)
    assert [point["current"] for point in points] == [1.0, 0.8, 0.6, 0.4]


def test_the_default_is_in_the_help_and_holds_plain_denoising():
    grid = read_grid(())
    points = grid.points(FIXED)
    assert len(points) == 32 and set(grid.axes) == {"current", "previous", "noise"}
    assert any((point["current"], point["previous"], point["noise"]) == (1, 0, 1) for point in points)
    text = " ".join(Path(options.__file__).read_text(encoding="utf-8").split())
    assert f"32 renders: {', '.join(DEFAULT)}." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], r"--grid : allowed are AXIS=FROM:TO:COUNT and AXIS=A\|B"),
        (["previous"], r"--grid previous: allowed are AXIS="),
        (["previous="], r"--grid previous=: allowed are AXIS="),
        (["previuos=0|1"], r"--grid previuos=0\|1: unknown axis previuos; did you mean previous\?"),
        (["previous=0|1", "previous=0.5"], r"--grid previous=0.5: the axis previous is given twice"),
        (["previous=0|1", "current=rest", "current=1"], r"--grid current=1: the axis current is given twice"),
        (["current=rest"], r"--grid current=rest is 1 - previous; add an axis previous"),
        (["previous=rest"], r"--grid previous=rest: no values"),
        (["tau=0.5|1.5"], r"--grid tau=0.5\|1.5: tau 1.5: allowed are 0 to 1"),
        (["strength=-1|1"], r"strength -1.0: allowed are 0 or more"),
        (["previous=0|nan"], r"previous nan: allowed are finite numbers"),
        (["previous=0:inf:3"], r"--grid previous=0:inf:3: no values"),
        (["previous=0:1:1"], r"no values; allowed are FROM:TO:COUNT with 2 or more"),
        (["previous=0||1"], r"no values"),
        (["previous=0|0.5|0"], r"--grid previous=0\|0.5\|0: 0 comes twice"),
        (["previous=0.1234567|0.1234568"], r"0.123457 comes twice, to six digits"),
        (["steps=0|4"], r"steps 0.0: allowed are 1 to 1000"),
        (["steps=2.5"], r"steps 2.5: allowed are whole numbers"),
    ],
)
def test_grids_that_cannot_be_read(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        read_grid(arguments)
    assert "\n" not in str(caught.value)


def test_what_makes_no_difference_is_rendered_once():
    def same(one, other, tau_end=None):
        return same_pictures(FIXED | one, tau_end) == same_pictures(FIXED | other, tau_end)

    # Of four steps, 0.9 and 1 are the last, 0.5 is round(1.5) = 2, the one before.
    assert same({"tau": 0.9}, {"tau": 1.0}) and not same({"tau": 0.5}, {"tau": 0.9})
    assert not same({"tau": 0.9, "steps": 20}, {"tau": 1.0, "steps": 20})
    plain = {"current": 1.0, "previous": 0.0, "noise": 1.0}
    assert same({**plain, "tau": 0.0}, {**plain, "tau": 1.0})
    assert same({"strength": 0.1}, {"strength": 1.0})
    for name, value in {"current": 0.6, "previous": 0.2, "noise": 0.9, "steps": 5}.items():
        assert not same({}, {name: value})
    assert not same({"tau": 0.0}, {"tau": 0.4}, tau_end=1.0) and math.isfinite(sum(same_pictures(FIXED, 1.0)))
