"""Which frames are rendered: spans, shots, held positions."""

import warnings

import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.errors import UserError
from svp_jax.rendering.driver import of_capture
from svp_jax.rendering.plan import plan_frames


@pytest.fixture(scope="module")
def gaps(driver_folder):
    return of_capture(open_capture(driver_folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return of_capture(open_capture(make_capture(tmp_path_factory.mktemp("whole") / "capture", 10)))


@pytest.mark.parametrize(
    ("frames", "span"),
    [
        ("all", (0, 10)),
        ("train", (0, 8)),
        ("test", (8, 10)),
        ("3:7", (3, 7)),
        (":4", (0, 4)),
        ("6:", (6, 10)),
    ],
)
def test_span(whole, frames, span):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = plan_frames(whole, frames)
    assert plan.span == range(*span)
    np.testing.assert_array_equal(plan.indices, range(*span))
    assert plan.held == []
    # A span within a shot starts anew only at its first frame.
    np.testing.assert_array_equal(np.flatnonzero(plan.starts), [0])


def test_frames_without_a_face_are_held_and_start_shots(gaps):
    with pytest.warns(UserWarning, match=r"^4 of 12 frames of .*driver have no face"):
        plan = plan_frames(gaps, "all")
    np.testing.assert_array_equal(plan.indices, [1, 2, 3, 4, 7, 8, 9, 10])
    assert plan.held == [0, 5, 6, 11]
    # First frame, after the gap, at the cut.
    np.testing.assert_array_equal(plan.indices[plan.starts], [1, 7, 9])


def test_held_positions_count_from_the_span(gaps):
    with pytest.warns(UserWarning, match="^2 of 5"):
        plan = plan_frames(gaps, "4:9")
    assert plan.held == [1, 2]
    np.testing.assert_array_equal(plan.indices[plan.starts], [4, 7])


@pytest.mark.parametrize("frames", ["8:11", "4:4", "5:3", "half", "-3:2", "1:2:3", ""])
def test_bad_spans(whole, frames):
    with pytest.raises(UserError, match=r"--frames .*(0:10|within)"):
        plan_frames(whole, frames)


def test_span_without_a_face(gaps):
    with pytest.raises(UserError, match=r"--frames 5:7: none of the frames 5:7 of .* has a face"):
        plan_frames(gaps, "5:7")


def test_empty_test_part(tmp_path):
    capture = of_capture(open_capture(make_capture(tmp_path / "capture", 3, test_fraction=0.0)))
    with pytest.raises(UserError, match=r"--frames test: .* has no such frames"):
        plan_frames(capture, "test")
