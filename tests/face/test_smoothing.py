import cv2
import numpy as np
import pytest

from svp_jax.face.smoothing import MotionMeter, find_shots, gaussian_over_time, jitter, nearest_known, smooth_landmarks


def moving_points(frames: int = 120, points: int = 30, noise: float = 0.5):
    """True paths with fast nods, noisy observations of them and the true motion between frames."""
    rng = np.random.default_rng(0)
    time = np.arange(frames)[:, None]
    middle = np.concatenate([20 * np.sin(time / 4), 10 * np.cos(time / 3), 0 * time], axis=1)[:, None]
    truth = middle + rng.uniform(0, 200, (1, points, 3))
    motion = np.concatenate([np.full((1, points, 2), np.nan), np.diff(truth[..., :2], axis=0)])
    return truth, truth + noise * rng.normal(size=truth.shape), motion


def test_noise_is_averaged_and_motion_kept():
    truth, noisy, motion = moving_points()
    shot = np.zeros(len(truth), int)
    smoothed = smooth_landmarks(noisy, motion, shot)

    def error(points: np.ndarray) -> float:
        return np.abs(points - truth)[..., :2].mean()

    assert error(smoothed) < 0.5 * error(noisy)
    assert jitter(smoothed, shot, motion) < 0.25 * jitter(noisy, shot, motion)
    # A plain Gaussian of the same width cuts the nods off: that is why the motion is measured.
    assert error(gaussian_over_time(noisy, 1.5)) > error(noisy) > error(smoothed)


def test_what_the_flow_misses_keeps_its_height():
    truth, noisy, _ = moving_points(noise=0.0)
    blink = np.zeros(len(truth))
    blink[60:63] = (6, 12, 6)
    noisy[:, 0, 1] += blink
    # The picture is said to stand still at all points but moves with the landmarks.
    motion = np.concatenate([np.full((1, 30, 2), np.nan), np.diff(truth[..., :2], axis=0)])
    smoothed = smooth_landmarks(noisy, motion, np.zeros(len(truth), int))
    assert (smoothed - truth)[61, 0, 1] == pytest.approx(12, abs=1e-4)


def test_shots_do_not_mix_and_lost_frames_stay():
    points = np.zeros((12, 5, 3), np.float32)
    points[6:] = 100
    points[5] = np.nan
    points[:, :, 0] += np.arange(5) * 20
    shot = np.array([0] * 5 + [-1] + [1] * 6)
    smoothed = smooth_landmarks(points, np.full((12, 5, 2), np.nan), shot)
    np.testing.assert_allclose(smoothed, points, atol=1e-4)


def test_sigma_zero_changes_nothing():
    _, noisy, motion = moving_points()
    assert (smooth_landmarks(noisy, motion, np.zeros(len(noisy), int), 0) == noisy.astype(np.float32)).all()


def test_jitter_of_steady_motion_is_zero():
    steady = np.arange(10.0)[:, None, None] * np.ones((1, 4, 3))
    assert jitter(steady, np.zeros(10, int)) == 0
    steady[5, :, 0] += 1
    # Second differences 1, -2, 1 in one of two coordinates of 8 frames.
    assert jitter(steady, np.zeros(10, int)) == pytest.approx(4 / 8 / 2)


def test_shots_begin_after_cut_gap_and_leap():
    landmarks = np.random.default_rng(0).uniform(0, 100, (1, 20, 3)) * np.ones((10, 1, 1))
    landmarks[3] = np.nan
    landmarks[8:, :, 0] += 60
    cut = np.zeros(10, bool)
    cut[6] = True
    assert find_shots(landmarks, cut).tolist() == [0, 0, 0, -1, 1, 1, 2, 2, 3, 3]


def texture(size: int = 200) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def test_meter_measures_a_known_shift():
    image = texture()
    points = np.random.default_rng(1).uniform(60, 140, (40, 3)).astype(np.float32)
    moved = cv2.warpAffine(image, np.array([[1, 0, 2.5], [0, 1, -1.25]], np.float32), (200, 200))
    meter = MotionMeter()
    assert meter.motion(image, points) is None
    motion = meter.motion(moved, points)
    assert np.isfinite(motion).mean() > 0.9
    # A shift by whole pixels is found to 2e-5; this one blurs the picture, which leaves 0.007.
    np.testing.assert_allclose(np.nanmedian(motion, axis=0), (2.5, -1.25), atol=0.02)
    assert meter.motion(moved, None) is None
    assert meter.motion(moved, points) is None


def test_meter_finds_cuts_and_not_motion():
    image, other = texture(), 255 - texture()[::-1]
    meter = MotionMeter()
    cuts = [meter.cut(np.roll(image, step, axis=1)) for step in range(8)]
    assert not any(cuts)
    assert meter.cut(other)
    assert not meter.cut(np.roll(other, 1, axis=1))


def test_nearest_known_frames():
    found = nearest_known(np.array([2, 3, 7]), np.arange(10))
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    # As a table of all distances has it.
    known = np.flatnonzero(np.random.default_rng(0).uniform(size=200) < 0.2)
    table = np.abs(np.arange(200)[:, None] - known).argmin(axis=1)
    np.testing.assert_array_equal(nearest_known(known, np.arange(200)), table)
