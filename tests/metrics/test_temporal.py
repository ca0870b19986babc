"""Smoothness and the per-frame scores, by hand."""

import numpy as np
import pytest

from svp_jax.metrics import psnr, smoothness, ssim
from svp_jax.metrics.score import means, score


def video(frames, seed=0, size=(16, 12)):
    return np.random.default_rng(seed).integers(0, 256, size=(frames, *size, 3), dtype=np.uint8)


def test_smoothness_is_zero_for_the_same_motion_whatever_the_constant_error():
    reference = video(4) / 510
    np.testing.assert_allclose(smoothness(reference + 0.25, reference), 0, atol=1e-12)
    assert (smoothness(reference[::-1], reference) > 0.05).all()


def test_smoothness_by_hand():
    reference = np.zeros((3, 8, 8, 1))
    image = reference.copy()
    image[1, 0, :4] = 0.5  # appears and goes: 4 of 64 pixels change by 0.5, twice
    np.testing.assert_allclose(smoothness(image, reference), [0.5 * 4 / 64] * 2)
    reference[1:, 4:] = 0.1  # the reference moves where the image does not: half of the pixels, once
    np.testing.assert_allclose(smoothness(image, reference), [0.5 * 4 / 64 + 0.1 / 2, 0.5 * 4 / 64])


def test_masked_smoothness_counts_pixels_of_either_mask():
    image, reference = np.zeros((2, 8, 8, 2)), np.zeros((2, 8, 8, 2))
    image[1, :2] = 1.0
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 0], masks[1, 3] = True, True  # one row that flickers, one that does not
    np.testing.assert_allclose(smoothness(image, reference, masks), [0.5])
    assert np.isnan(smoothness(image, reference, np.zeros_like(masks))).all()


def test_scores_are_those_of_the_single_functions_and_respect_shots():
    images, references = video(4), video(4, seed=1)
    masks = np.zeros((4, 16, 12), bool)
    masks[:3, 4:12, 3:9] = True  # the last frame has no face
    follows = [False, True, False, True]
    scores = score(iter(images), iter(references), iter(masks), follows)
    x, y = images / 255, references / 255
    for n in range(4):
        assert scores["full"]["psnr"][n] == pytest.approx(psnr(x[n], y[n]))
        assert scores["full"]["ssim"][n] == pytest.approx(ssim(x[n], y[n]))
    for n in range(3):
        assert scores["face"]["psnr"][n] == pytest.approx(psnr(x[n], y[n], masks[n]))
        assert scores["face"]["ssim"][n] == pytest.approx(ssim(x[n], y[n], masks[n]))
    assert all(np.isnan(scores["face"][metric][3]) for metric in ("psnr", "ssim", "mse"))
    whole, face = smoothness(x, y), smoothness(x, y, masks)
    expected = [np.nan, whole[0], np.nan, whole[2]]
    np.testing.assert_allclose(scores["full"]["smoothness"], expected)
    np.testing.assert_allclose(scores["face"]["smoothness"], [np.nan, face[0], np.nan, face[2]])

    averages = means(scores)
    assert averages["full"]["smoothness"] == pytest.approx((whole[0] + whole[2]) / 2)
    assert averages["face"]["psnr"] == pytest.approx(scores["face"]["psnr"][:3].mean())


def test_scores_without_masks_have_no_face_and_need_as_many_frames():
    images = video(3)
    assert set(score(images, images, None, [False] * 3)) == {"full"}
    with pytest.raises(ValueError, match="zip"):
        score(images[:2], images, None, [False] * 3)


def test_a_metric_defined_nowhere_has_no_mean():
    images = video(2)
    averages = means(score(images, images, np.zeros((2, 16, 12), bool), [False, False]))
    assert np.isnan(averages["face"]["mse"]) and np.isnan(averages["full"]["smoothness"])
    assert averages["full"]["mse"] == 0
