"""Scores of tracked and parsed pictures, with a tracker and a parser whose answers are known."""

import itertools

import numpy as np
import pytest

from svp_jax.metrics.control import NOBODY, Tracked
from svp_jax.metrics.meters.tracking import TrackingMeter
from svp_jax.metrics.score import means, score

COUNT = 5
RNG = np.random.default_rng(0)
LANDMARKS = RNG.normal(50, 20, (478, 3)).astype(np.float32)
# One pixel to the right in each frame.
MOVING = (LANDMARKS + np.arange(COUNT)[:, None, None] * np.array([1, 0, 0])).astype(np.float32)
SHAKY = MOVING + np.array([0, 1, 0], np.float32) * (np.arange(COUNT) % 2)[:, None, None]
TRUTH = np.zeros((COUNT, 8, 8, 3), np.uint8)
TRUTH[:, :4] = 1


def seen(landmarks, without=()):
    """A tracker that sees these landmarks, but none in some frames."""

    def track(picture, number):
        if number in without:
            return NOBODY
        return Tracked(landmarks[number], np.zeros(52, np.float32), np.eye(3, dtype=np.float32))

    return track


def labels_of(picture, landmarks):
    """A parser: a picture's first channel is its map."""
    return picture[..., 0] if np.isfinite(landmarks).all() else None


def measured(trackers, rows, parse=None, follows=(False, True, True, True, True)):
    """What the meter finds: of each row the scores per frame, and those of the whole video."""
    meter = TrackingMeter(COUNT, trackers, parse, {})
    score([list(row) for row in rows], list(TRUTH), itertools.repeat({"full": None}, COUNT), follows, [meter])
    return [regions["full"] for regions in meter.per_frame()], meter.totals()


def test_distances_jitter_and_lost_faces():
    trackers = [seen(MOVING), seen(MOVING), seen(SHAKY), seen(MOVING, without=(1, 3))]
    (exact, late, lost), totals = measured(trackers, [TRUTH] * 3)
    assert (exact["landmark_distance"] == 0).all()
    assert [each["faces_missing"] for each in totals] == [0, 0, 2]
    np.testing.assert_allclose(exact["landmark_jitter"], [np.nan, np.nan, 0, 0, 0], atol=1e-4)
    for each in (exact, late, lost):
        np.testing.assert_array_equal(each["landmark_jitter_reference"], exact["landmark_jitter"])
    distance = late["landmark_distance"]
    assert (distance[[0, 2, 4]] == 0).all() and (distance[[1, 3]] > 0).all()
    # Up and down by a pixel: a second difference of two, of y alone.
    assert means({"full": late})["full"]["landmark_jitter"] == pytest.approx(1, abs=1e-4)
    assert np.isnan(lost["landmark_distance"]).tolist() == [False, True, False, True, False]
    assert lost["pose_distance"][0] == 0 and lost["expression_distance"][0] == 0
    assert np.isnan(lost["landmark_jitter"]).all() and "parsing_agreement" not in lost


def test_jitter_begins_anew_where_frames_do_not_follow():
    ((found,), _) = measured([seen(MOVING), seen(SHAKY)], [TRUTH], follows=(False, True, False, True, True))
    assert np.isnan(found["landmark_jitter"]).tolist() == [True, True, True, True, False]


def test_parsing():
    other = TRUTH.copy()
    other[2, :, 4:] = 1 - other[2, :, 4:]
    trackers = [seen(MOVING, without=(0,)), seen(MOVING, without=(1,)), seen(MOVING)]
    (same, turned), _ = measured(trackers, [TRUTH, other], labels_of)
    # None of the reference's; none found here; then all.
    np.testing.assert_array_equal(same["parsing_agreement"], [np.nan, 0, 1, 1, 1])
    # Half of each label is right, half of the picture wrong: 16 of 48 pixels.
    np.testing.assert_allclose(turned["parsing_agreement"], [np.nan, 1, 1 / 3, 1, 1])
