"""Scores of tracked and parsed pictures, with a tracker and a parser whose answers are known."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from svp_jax.metrics import tracked as module
from svp_jax.metrics.control import Tracked
from svp_jax.metrics.tracked import parsing_scores, tracking_scores

COUNT = 5
RNG = np.random.default_rng(0)
LANDMARKS = RNG.normal(50, 20, (478, 3)).astype(np.float32)
# One pixel to the right in each frame.
MOVING = (LANDMARKS + np.arange(COUNT)[:, None, None] * np.array([1, 0, 0])).astype(np.float32)


def seen(landmarks, without=()):
    landmarks = landmarks.copy()
    blendshapes = np.zeros((COUNT, 52), np.float32)
    rotation = np.broadcast_to(np.eye(3, dtype=np.float32), (COUNT, 3, 3)).copy()
    for each in (landmarks, blendshapes, rotation):
        each[list(without)] = np.nan
    return Tracked(landmarks, blendshapes, rotation)


def test_distances_jitter_and_lost_faces():
    follows = np.array([False, True, True, True, True])
    reference = seen(MOVING)
    shaky = MOVING + np.array([0, 1, 0], np.float32) * (np.arange(COUNT) % 2)[:, None, None]
    exact, late, lost = (
        tracking_scores([row], reference, follows)[0] for row in (reference, seen(shaky), seen(MOVING, without=(1, 3)))
    )
    assert (exact[0]["full"]["landmark_distance"] == 0).all() and exact[1]["faces_missing"] == 0
    assert exact[1]["landmark_jitter"] == pytest.approx(0, abs=1e-4)
    assert exact[1]["landmark_jitter_reference"] == exact[1]["landmark_jitter"]
    distance = late[0]["full"]["landmark_distance"]
    assert (distance[[0, 2, 4]] == 0).all() and (distance[[1, 3]] > 0).all()
    # Up and down by a pixel: a second difference of two, of y alone.
    assert late[1]["landmark_jitter"] == pytest.approx(1, abs=1e-4)
    assert lost[1]["faces_missing"] == 2
    assert np.isnan(lost[0]["full"]["landmark_distance"]).tolist() == [False, True, False, True, False]
    assert lost[0]["full"]["pose_distance"][0] == 0 and lost[0]["full"]["expression_distance"][0] == 0


def test_parsing(monkeypatch):
    @contextmanager
    def parser():
        yield None, (Path("parser.tflite"),)

    # A picture's first channel is its map.
    def labels_of(parser, picture, landmarks):
        return picture[..., 0] if np.isfinite(landmarks).all() else None

    monkeypatch.setattr(module, "picture_parser", parser)
    monkeypatch.setattr(module, "parse_picture", labels_of)
    truth = np.zeros((COUNT, 8, 8, 3), np.uint8)
    truth[:, :4] = 1
    other = truth.copy()
    other[2, :, 4:] = 1 - other[2, :, 4:]

    def pictures(array):
        return lambda numbers: iter(array[numbers])

    reference = (pictures(truth), seen(MOVING, without=(0,)))
    rows = [(pictures(truth), seen(MOVING, without=(1,))), (pictures(other), seen(MOVING))]
    files, (same, turned) = parsing_scores(rows, reference, COUNT)
    assert files == (Path("parser.tflite"),)
    # None of the reference's; none found here; then all.
    np.testing.assert_array_equal(same["full"]["parsing_agreement"], [np.nan, 0, 1, 1, 1])
    # Half of each label is right, half of the picture wrong: 16 of 48 pixels.
    np.testing.assert_allclose(turned["full"]["parsing_agreement"], [np.nan, 1, 1 / 3, 1, 1])
