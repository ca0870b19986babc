"""Landmarks, expression, pose and parsing maps: by hand, and with the real tracker and parser."""

import itertools
from fractions import Fraction

import cv2
import numpy as np
import pytest

from svp_jax.capture.video import open_video
from svp_jax.errors import UserError
from svp_jax.face.morphable.multi_pie import COUNT, INNER, eye_distance, points_of
from svp_jax.face.tracking import Face, face_tracker
from svp_jax.metrics.control import (
    IDENTITY_LEFT_OUT,
    PersonTracker,
    Tracked,
    expression_distance,
    landmark_distance,
    parse_picture,
    parsing_agreement,
    picture_parser,
    pose_distance,
)

RNG = np.random.default_rng(0)


def face_points(frames=3):
    """Multi-PIE points [frames, 70, 3] whose outer eye corners are 50 pixels apart."""
    points = RNG.uniform(50, 200, (frames, COUNT, 3))
    points[:, 36], points[:, 45] = (100, 80, 0), (140, 110, 0)
    return points


def turned(degrees, axis=(0.0, 1.0, 0.0)):
    return cv2.Rodrigues(np.radians(degrees) * np.asarray(axis) / np.linalg.norm(axis))[0]


def test_landmark_distance_is_in_percent_of_the_references_eye_distance():
    reference = face_points()
    shifted = reference + np.array([3, 4, 100])  # 5 pixels in the picture; depth does not count
    np.testing.assert_allclose(landmark_distance(shifted, reference), 10)
    # Twice the size, the same number.
    np.testing.assert_allclose(landmark_distance(2 * shifted, 2 * reference), 10)
    jaw = reference.copy()
    jaw[:, : INNER.start] += 50
    jaw[:, INNER.stop :] += 50
    assert (landmark_distance(jaw, reference) == 0).all()
    one = reference.copy()
    one[1, 30, 0] += 10  # one of 51 points
    np.testing.assert_allclose(landmark_distance(one, reference), [0, 20 / 51, 0])


def test_landmark_distance_takes_mediapipes_points_and_keeps_unknown_frames_unknown():
    reference = RNG.uniform(0, 100, (2, 478, 3)).astype(np.float32)
    distance = landmark_distance(reference, np.stack([reference[0], np.full((478, 3), np.nan)]))
    assert distance[0] == 0 and np.isnan(distance[1])
    with pytest.raises(ValueError, match="landmarks: got 68 points"):
        landmark_distance(reference[:, :68], reference[:, :68])


def test_expression_distance_by_hand():
    reference = np.full((2, 52), 0.25, np.float32)
    open_mouth = reference.copy()
    open_mouth[1, 25] = 0.77
    np.testing.assert_allclose(expression_distance(open_mouth, reference), [0, 0.52 / 52], atol=1e-8)
    assert np.isnan(expression_distance(np.full(52, np.nan), reference[0]))


@pytest.mark.parametrize("degrees", [1e-6, 0.01, 20.0, 90.0, 179.99])
def test_pose_distance_is_the_angle_between_two_heads(degrees):
    start = turned(35, (1, 2, 3))
    turn = turned(degrees, (3, -1, 2))
    # 1e-8: what float64 leaves of the rotation matrices near half a turn.
    for end in (start @ turn, turn @ start):
        assert pose_distance(start, end) == pytest.approx(degrees, abs=1e-8)
        assert pose_distance(end, start) == pytest.approx(degrees, abs=1e-8)
    assert pose_distance(start, start) == pytest.approx(0, abs=1e-8)
    assert np.isnan(pose_distance(np.full((3, 3), np.nan), start))


def test_parsing_agreement_is_the_mean_iou_of_the_references_labels():
    reference = np.zeros((4, 4), np.uint8)
    reference[2:] = 4
    labels = reference.copy()
    labels[2] = 0  # 4 of 8 face pixels are lost: IoU 1/2; background 8 of 12
    assert parsing_agreement(labels, reference) == pytest.approx((1 / 2 + 8 / 12) / 2)
    labels[0, 0] = 9  # a label that the reference has not
    assert parsing_agreement(labels, reference) == pytest.approx((1 / 2 + 7 / 12) / 2)
    assert parsing_agreement(reference, reference) == 1
    assert parsing_agreement(np.full((4, 4), 15), reference) == 0
    with pytest.raises(ValueError, match="one shape"):
        parsing_agreement(labels[:2], reference)


def test_a_missing_tracker_or_parser_is_named_with_what_fetches_it(monkeypatch, tmp_path):
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"face_landmarker\.task is not in .*svp assets --fetch"):
        track([], Fraction(25))
    with pytest.raises(UserError, match=r"agreement needs a parser.*svp assets --fetch"), picture_parser(64, 64):
        pass
    assert "licence" in IDENTITY_LEFT_OUT


def test_parsing_wants_square_pictures_with_a_face():
    with pytest.raises(UserError, match="64 x 32"), picture_parser(32, 64):
        pass
    assert parse_picture(None, np.zeros((32, 32, 3), np.uint8), np.full((478, 3), np.nan)) is None


def track(pictures, frame_rate, model=None) -> Tracked:
    """What a tracker sees in the pictures of a video, as arrays of all."""
    with face_tracker(model) as tracker:
        person = PersonTracker(tracker, frame_rate, np.zeros(100))
        seen = [person(picture, number) for number, picture in enumerate(pictures)]
    return Tracked(
        *(np.stack([getattr(each, name) for each in seen]) for name in ("landmarks", "blendshapes", "rotation"))
    )


@pytest.fixture(scope="module")
def real(shared):
    """Eight frames uint8 [512, 512, 3] of a real video, every fourth; frame 5 is black."""
    models = shared / "models"
    frames = itertools.islice(open_video(shared / "videos" / "lp_d0.mp4").frames(), 0, 32, 4)
    pictures = [image for _, image in frames]
    pictures[5] = np.zeros_like(pictures[5])
    return pictures, models


def test_a_real_face_is_where_it_is_at_any_size(real):
    pictures, models = real
    tracked = track(iter(pictures), Fraction(25, 4), models / "face_landmarker.task")
    assert tracked.landmarks.shape == (8, 478, 3)
    found = np.isfinite(tracked.landmarks[:, 0, 0])
    assert found.tolist() == [number != 5 for number in range(8)]
    # Rotations: transposed they undo themselves.
    rotation = tracked.rotation[found]
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (7, 1, 1)), atol=1e-4)

    small = [cv2.resize(picture, (128, 96), interpolation=cv2.INTER_AREA) for picture in pictures]
    shrunk = track(small, Fraction(25, 4), models / "face_landmarker.task")
    landmarks = shrunk.landmarks * [4, 512 / 96, 4]
    distances = landmark_distance(landmarks, tracked.landmarks)
    # A quarter of the size costs detail; two such frames of the video itself differ by more.
    assert (distances[found] < 3).all() and np.isnan(distances[5])
    assert (expression_distance(shrunk.blendshapes, tracked.blendshapes)[found] < 0.05).all()


def test_a_real_face_that_is_moved_and_turned_is_so_far_away(real):
    pictures, models = real
    moved = np.roll(pictures[0], (20, -15), axis=(0, 1))
    turn = cv2.getRotationMatrix2D((256, 256), 20, 1.0)
    rolled = cv2.warpAffine(pictures[0], turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    # Far apart in time, so that the tracker looks for each anew.
    tracked = track([pictures[0], moved, rolled], Fraction(1), models / "face_landmarker.task")
    eyes = eye_distance(points_of(tracked.landmarks[0]))
    # The tracker is sure of a pixel or two, and of a head's turn to a few degrees.
    distances = landmark_distance(tracked.landmarks, tracked.landmarks[[0, 0, 0]])
    assert distances[1] == pytest.approx(100 * 25 / eyes, rel=0.1) and distances[2] > 10
    turns = pose_distance(tracked.rotation, tracked.rotation[[0, 0, 0]])
    assert turns[1] < 4 and turns[2] == pytest.approx(20, abs=3)
    assert (expression_distance(tracked.blendshapes, tracked.blendshapes[[0, 0, 0]]) < 0.05).all()


def test_a_real_parsing_map_agrees_with_itself_more_than_with_a_shifted_one(real, monkeypatch):
    pictures, models = real
    monkeypatch.setenv("SVP_MODELS", str(models))
    shifted = np.roll(pictures[0], 12, axis=1)
    tracked = track([pictures[0], shifted], Fraction(25))
    with picture_parser(512, 512) as (parser, files):
        assert [file.suffix for file in files] == [".yaml", ".onnx"]
        maps = [parse_picture(parser, p, q) for p, q in zip((pictures[0], shifted), tracked.landmarks, strict=True)]
    assert maps[0].shape == (512, 512) and len(np.unique(maps[0])) > 8
    apart = parsing_agreement(maps[1], maps[0])
    moved_back = parsing_agreement(np.roll(maps[1], -12, axis=1), maps[0])
    assert 0.2 < apart < 0.8 < moved_back <= 1


def test_the_person_is_looked_for_anew_after_a_cut():
    def face(left: float, size: float) -> Face:
        corners = np.array([[left, 100, 0], [left + size, 100 + size, 0]], np.float32)
        return Face(corners.repeat(239, 0), np.zeros(52, np.float32), np.eye(4, dtype=np.float32))

    class Tracker:
        """Sees one person on the left, who gets smaller, and one on the right, who grows."""

        def detect(self, picture, seconds):
            return [face(0, 200 - 50 * seconds), face(300, 50 + 50 * seconds)]

    person = PersonTracker(Tracker(), Fraction(1), np.array([0, 0, 0, 1]))
    seen = [person(np.zeros((512, 512, 3), np.uint8), number) for number in range(4)]
    assert [each.landmarks[0, 0] for each in seen] == [0, 0, 0, 300]
