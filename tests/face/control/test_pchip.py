import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.face.control.pchip import held_curve

interpolate = pytest.importorskip(
    "scipy.interpolate", reason="curves are tested against SciPy; install the [dev] extra"
)

VALUES = st.floats(-1000, 1000)


@st.composite
def keys(draw, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(times, values) of up to 8 keys."""
    steps = draw(st.lists(st.floats(1e-3, 100), min_size=least, max_size=8))
    values = draw(st.lists(VALUES, min_size=len(steps), max_size=len(steps)))
    return np.cumsum(steps) - steps[0], np.array(values)


def resting(times: np.ndarray, values: np.ndarray):
    """SciPy's curve through the keys and one more of the same value on either side."""
    padded = np.concatenate([[times[0] - 1], times, [times[-1] + 1]])
    return interpolate.PchipInterpolator(padded, np.concatenate([values[:1], values, values[-1:]]))


@given(keys())
def test_it_is_scipys(drawn):
    times, values = drawn
    at = np.linspace(times[0], times[-1], 101)
    np.testing.assert_allclose(held_curve(times, values, at), resting(times, values)(at), atol=1e-8)


@given(keys(least=4))
def test_between_inner_keys_it_is_scipys_of_these_keys_alone(drawn):
    times, values = drawn
    at = np.linspace(times[1], times[-2], 101)
    np.testing.assert_allclose(
        held_curve(times, values, at), interpolate.PchipInterpolator(times, values)(at), atol=1e-8
    )


@given(keys(), st.lists(st.floats(-10, 1000), max_size=50))
def test_it_never_leaves_the_range_of_neighbouring_keys(drawn, at):
    times, values = drawn
    right = np.searchsorted(times, at, side="right")
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(times) - 1)
    curve = held_curve(times, values, np.array(at))
    assert (curve >= np.minimum(values[left], values[right])).all()
    assert (curve <= np.maximum(values[left], values[right])).all()


@given(keys())
def test_it_hits_the_keys_and_is_held_outside(drawn):
    times, values = drawn
    np.testing.assert_array_equal(held_curve(times, values, times), values)
    np.testing.assert_array_equal(held_curve(times, values, times[0] - np.array([5, 0.01])), values[[0, 0]])
    np.testing.assert_array_equal(held_curve(times, values, times[-1] + np.array([0.01, 5])), values[[-1, -1]])


def test_it_eases_in_and_out():
    at = np.linspace(-0.5, 1.5, 2001)
    curve = held_curve([0, 1], [0, 10], at)
    np.testing.assert_allclose(held_curve([0, 1], [0, 10], [0.25, 0.5]), [1.5625, 5])
    # The speed has no step, of at most the largest acceleration times the distance of samples.
    assert np.abs(np.diff(curve, 2)).max() < 1.01 * 60 * 0.001**2


def test_no_times_give_no_values():
    assert held_curve([0, 1], [2, 3], []).shape == held_curve([0], [2], []).shape == (0,)
