"""How a fit's quality is told, and what of the tracker goes into it."""

import dataclasses

import numpy as np
import pytest

from svp_jax.face.morphable.embedding import at_vertices
from svp_jax.face.morphable.mediapipe import MediaPipeFace
from svp_jax.face.morphable.multi_pie import COUNT, INNER
from svp_jax.face.morphable.parameters import neutral
from svp_jax.face.morphable.tracked import fit_report, landmark_embedding, matching_channels, video_camera

FRAMES, EYES_APART = 12, 100.0


@pytest.fixture
def face():
    """70 points in a plane; the outer corners of the eyes, 36 and 45, are 1 apart."""
    mean = np.zeros((COUNT, 3), np.float32)
    mean[:, 0] = (np.arange(COUNT) - 40.5) / 9
    mean[:, 1] = np.arange(COUNT) % 5 / 10
    mean[45, 1] = mean[36, 1]
    return MediaPipeFace(
        mean=mean,
        basis=np.zeros((1, COUNT, 3), np.float32),
        turned_by=np.full(COUNT, 2, np.int8),
        eye_centre=np.zeros((2, 3), np.float32),
        seen=np.ones(1, np.float32),
        landmarks=at_vertices(np.arange(COUNT)),
        channels=("jawOpen",),
    )


@pytest.fixture
def still(face):
    """(parameters, camera, landmarks) of a head that stands still at a distance where 1 is 100 pixels."""
    parameters = neutral(0, 1, FRAMES)
    parameters.translation[:, 2] = -10
    camera = video_camera(500, 400, 0, 0, 1.0)
    assert camera.focal == 10 * EYES_APART
    return parameters, camera, np.array(camera.project(face.vertices(parameters)))


def test_a_perfect_fit_has_no_error(face, still):
    parameters, camera, landmarks = still
    report = fit_report(face, parameters, face.landmarks, landmarks, landmarks, np.zeros(FRAMES, int), camera)
    assert report.error == pytest.approx(0, abs=1e-6) and report.worst_frame == pytest.approx(0, abs=1e-6)
    assert report.jitter_tracked == report.jitter_fitted == 0


def test_errors_are_parts_of_the_distance_between_the_eyes(face, still):
    parameters, camera, landmarks = still
    landmarks[:, :, 0] += 2.0
    landmarks[5, :, 0] += 3.0
    # Jaw and irises do not count, and neither do frames without a face.
    landmarks[:, : INNER.start] += 50
    landmarks[:, INNER.stop :] -= 50
    landmarks[7] = np.nan
    shot = np.zeros(FRAMES, int)
    shot[7] = -1
    report = fit_report(face, parameters, face.landmarks, landmarks, landmarks, shot, camera)
    assert report.worst_frame == pytest.approx(0.05, rel=1e-4)
    assert report.error == pytest.approx((10 * 0.02 + 0.05) / 11, rel=1e-4)


def test_jitter_is_of_the_raw_landmarks_and_of_the_fit(face, still):
    parameters, camera, landmarks = still
    raw = landmarks.copy()
    raw[1::2, :, 0] += 1.0  # To and fro by a pixel: second differences of 2 in x, 0 in y.
    report = fit_report(face, parameters, face.landmarks, landmarks, raw, np.zeros(FRAMES, int), camera)
    assert report.jitter_tracked == pytest.approx(1.0, rel=1e-5) and report.jitter_fitted == 0


def test_the_camera_of_a_crop_sees_the_same():
    whole, crop = video_camera(1920, 1080, 0, 0, 1.0), video_camera(1920, 1080, 400, 100, 0.5)
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) - np.array([0, 0, 8], np.float32)
    expected = (np.asarray(whole.project(points))[:, :2] - [400, 100]) * 0.5
    np.testing.assert_allclose(crop.project(points)[:, :2], expected, rtol=1e-4)
    # A portrait's field of view over the longer side.
    assert 2 * np.degrees(np.arctan(960 / whole.focal)) == pytest.approx(28.07, abs=0.01)


def test_channels_meet_scores_of_their_name():
    names = ("_neutral", "browInnerUp", "eyeBlinkLeft", "eyeBlinkRight", "jawOpen")
    channels = ("jawOpen", "browInnerUpLeft", "browInnerUpRight", "eyeBlinkRight", "eyeBlink", "tongueOut")
    np.testing.assert_array_equal(matching_channels(channels, names), [4, 1, 1, 3, 2, -1])
    np.testing.assert_array_equal(matching_channels(channels, ()), [-1] * 6)


def test_embeddings_by_kind_of_landmarks(face):
    np.testing.assert_array_equal(landmark_embedding(face, 70, None).corners[:, 0], np.arange(70))
    other = dataclasses.replace(face, name="other", landmarks=at_vertices(np.arange(COUNT)[::-1]))
    np.testing.assert_array_equal(landmark_embedding(other, COUNT, None).corners[:, 0], np.arange(COUNT)[::-1])
