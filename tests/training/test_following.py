"""Whether pictures follow their conditions: scores that can be worked out by hand, and on real frames."""

import dataclasses
import warnings

import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.capture.video import open_video
from svp_jax.face.labels import LABEL_INDEX, colorize
from svp_jax.training.data.held_out import scored_frames
from svp_jax.training.watching.following import following, landmark_scores, parsing_scores

FACE, HAIR = LABEL_INDEX["face"], LABEL_INDEX["hair"]


def test_parsing_scores_by_hand():
    """Four maps of 4 x 4: their upper rows are face, 1, 2, 3 and 4 of them, the rest is background."""
    truth = np.zeros((4, 4, 4), np.uint8)
    for number, labels in enumerate(truth):
        labels[: number + 1] = FACE
    scores = parsing_scores(truth, truth, np.arange(4))
    assert scores["parsing_agreement"] == scores["mean_iou"] == 1
    # Frames 2, 3, 0, 1: of both labels' rows, counted over all, 1 + 2 + 1 + 2 of 3 + 4 + 3 + 4 are shared, and
    # 1 + 0 + 1 + 0 of 3 + 2 + 3 + 2.
    assert scores["mean_iou_other_frame"] == pytest.approx((6 / 14 + 2 / 10) / 2)
    # One picture that was not found: frame 2 goes by its number, its other frame is 0.
    scores = parsing_scores(truth[[2]], truth, np.array([2]))
    assert scores["parsing_agreement"] == 1
    assert scores["mean_iou_other_frame"] == pytest.approx((1 / 3 + 1 / 3) / 2)


def test_labels_that_the_truth_has_not_count_as_wrong_but_not_by_themselves():
    truth = np.zeros((2, 2, 2), np.uint8)
    truth[:, 0] = FACE
    drawn = truth.copy()
    drawn[:, 0, 0] = HAIR
    scores = parsing_scores(drawn, truth, np.arange(2))
    assert scores["parsing_agreement"] == 0.75
    assert scores["mean_iou"] == pytest.approx((1 / 2 + 1) / 2)


def test_landmark_scores_by_hand():
    """Of two frames, 20 pixels apart, with eyes 50 pixels apart: 10 % of that away, towards the other."""
    face = np.random.default_rng(0).uniform(0, 100, (478, 3))
    face[[33, 263]] = [[25, 50, 0], [75, 50, 30]]
    truth = face + np.array([[[0, 0, 0]], [[20, 0, 0]]])
    drawn = face + np.array([[[5, 0, 99]], [[15, 0, -99]]])
    scores = landmark_scores(drawn, truth, np.arange(2))
    assert scores["landmark_distance"] == pytest.approx(100 * 5 / 50)
    assert scores["landmark_distance_other_frame"] == pytest.approx(100 * 15 / 50)
    # A face half as far away: the same share of the eyes' distance.
    halved = landmark_scores(drawn / 2, truth / 2, np.arange(2))
    assert halved["landmark_distance"] == pytest.approx(scores["landmark_distance"])


def test_outlines_are_scored_in_their_colours():
    maps = np.zeros((4, 8, 8), np.uint8)
    for number, labels in enumerate(maps):
        labels[number : number + 4] = FACE
    score = following(None, "outlines", colorize(maps))
    noise = np.random.default_rng(0).integers(-20, 21, (*maps.shape, 3))
    noisy = np.clip(colorize(maps) + noise, 0, 255).astype(np.uint8)
    scores = score(noisy)
    assert scores["mean_iou"] == 1 > scores["mean_iou_other_frame"]
    assert score(np.zeros_like(noisy))["parsing_agreement"] == 0.5


@pytest.fixture(scope="module")
def capture(capture_folder):
    return open_capture(capture_folder)


def test_without_model_files_the_details_have_no_score(capture, tmp_path, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    truth = capture.frames(capture.test_indices)
    with pytest.warns(UserWarning, match=r"no following score: model file face_landmarker\.task is not in"):
        score = following(capture, "details", truth)
    with warnings.catch_warnings():
        # Said once.
        warnings.simplefilter("error")
        assert score(truth) == {}


@pytest.fixture
def models(shared, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    return shared / "models"


def test_a_capture_without_faces_has_no_score(capture, models):
    truth = np.zeros_like(capture.frames(capture.test_indices))
    with pytest.warns(UserWarning, match="no following score: a face is found in 0 of 4 true frames"):
        assert following(capture, "details", truth)(truth) == {}


@pytest.fixture(scope="module")
def talking(shared) -> np.ndarray:
    """Eight frames of a person who speaks, and moves her head."""
    frames = [image for _, image in open_video(shared / "videos" / "hdtf_a.mp4").frames(0, 8)]
    return np.stack(frames[:: len(frames) // 8][:8])


def test_real_frames_follow_themselves_and_blurred_ones_still_do(capture, models, talking):
    score = following(capture, "details", talking)
    scores = score(talking)
    assert scores["faces_found"] == 8
    assert scores["landmark_distance"] == 0 and scores["mean_iou"] == scores["parsing_agreement"] == 1
    assert scores["landmark_distance_other_frame"] > 3 and scores["mean_iou_other_frame"] < 0.9
    # As far from the frames as what a still picture is like.
    still = score(np.broadcast_to(talking[:1], talking.shape))
    assert still["landmark_distance"] > 3
    # Every second frame without a face.
    half = talking.copy()
    half[::2] = 128
    halved = score(half)
    assert halved["faces_found"] == 4 and halved["landmark_distance"] == 0 and halved["mean_iou"] == 1
    assert score(np.zeros_like(talking)) == {"faces_found": 0}


def test_without_a_parser_the_landmarks_are_scored(capture, models, talking, tmp_path, monkeypatch):
    (tmp_path / "face_landmarker.task").symlink_to(models / "face_landmarker.task")
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match="no parsing agreement: there is no parser: `svp assets --fetch selfie_multi"):
        score = following(capture, "details", talking)
    assert score(talking).keys() == {"faces_found", "landmark_distance", "landmark_distance_other_frame"}


def test_a_capture_made_by_a_parser_that_is_broken_by_now(capture, models, talking, tmp_path):
    parser = tmp_path / "parser.yaml"
    parser.write_text("model: nothing.onnx\n")
    made_by = dataclasses.replace(capture, manifest={**capture.manifest, "settings": {"parser": str(parser)}})
    with pytest.warns(UserWarning, match=r"no parsing agreement: .*parser\.yaml"):
        score = following(made_by, "details", talking)
    assert "mean_iou" not in score(talking)


@pytest.mark.parametrize(("frames", "expected"), [(20, 4), (100, 8)])
def test_the_scored_frames(tmp_path, frames, expected):
    capture = open_capture(make_capture(tmp_path / "capture", frames))
    indices = scored_frames([capture]).frames
    assert len(indices) == expected == len(set(indices)) and set(indices) <= set(capture.test_indices)
