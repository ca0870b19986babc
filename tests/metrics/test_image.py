"""PSNR, SSIM, MSE and L1 against scikit-image and against numbers worked out by hand."""

import itertools

import numpy as np
import pytest

from svp_jax.metrics import l1, mse, psnr, ssim
from svp_jax.metrics.image import STRIP, ssim_map


def pictures(height, width, seed=0, noise=0.1):
    """A smooth picture and a noisy one of it, so that SSIM is neither 0 nor 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 9.0
    reference = np.stack([np.sin(x + y), np.cos(x * y / 3), np.sin(3 * x)], axis=-1) * 0.4 + 0.5
    return np.clip(reference + rng.normal(scale=noise, size=reference.shape), 0, 1), reference


@pytest.mark.parametrize("size", [(48, 64), (7, 7), (33, 8), (128, 128)])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_all_three_equal_scikit_image(size, noise):
    skimage = pytest.importorskip("skimage.metrics")
    image, reference = pictures(*size, noise=noise)
    expected = skimage.structural_similarity(image, reference, channel_axis=-1, data_range=1)
    assert abs(ssim(image, reference) - expected) < 1e-9
    expected = skimage.peak_signal_noise_ratio(reference, image, data_range=1)
    assert abs(psnr(image, reference) - expected) < 1e-9
    assert abs(mse(image, reference) - skimage.mean_squared_error(image, reference)) < 1e-12


def test_strips_do_not_show():
    skimage = pytest.importorskip("skimage.metrics")
    image, reference = pictures(3 * STRIP + 11, 20)
    _, full = skimage.structural_similarity(image, reference, channel_axis=-1, data_range=1, full=True)
    np.testing.assert_allclose(ssim_map(image, reference), full[3:-3, 3:-3], atol=1e-9)


@pytest.mark.parametrize("noise", [0.004, 0.1, 0.5])
def test_bytes_score_as_their_floats_and_as_scikit_image_scores_bytes(noise):
    skimage = pytest.importorskip("skimage.metrics")
    image, reference = (np.round(255 * picture).astype(np.uint8) for picture in pictures(80, 61, noise=noise))
    floats = image / 255, reference / 255
    mask = np.zeros((80, 61), bool)
    mask[10:40, 7:50] = True
    # Each pixel's last quotient is in single precision, of exact whole numbers.
    for chosen in (None, mask):
        assert abs(ssim(image, reference, chosen) - ssim(*floats, chosen)) < 1e-6
        assert abs(psnr(image, reference, chosen) - psnr(*floats, chosen)) < 1e-6
        assert abs(l1(image, reference, chosen) - l1(*floats, chosen)) < 1e-7
    assert np.abs(ssim_map(image, reference) - ssim_map(*floats)).max() < 1e-6
    expected = skimage.structural_similarity(image, reference, channel_axis=-1)
    assert abs(ssim(image, reference) - expected) < 1e-6
    assert abs(psnr(image, reference) - skimage.peak_signal_noise_ratio(reference, image)) < 1e-6


def test_the_largest_sums_of_bytes_do_not_overflow():
    white, black = np.full((16, 16, 3), 255, np.uint8), np.zeros((16, 16, 3), np.uint8)
    checks = ((np.indices((16, 16)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    for image, reference in itertools.product((white, black, checks, 255 - checks), repeat=2):
        assert ssim(image, reference) == pytest.approx(ssim(image / 255, reference / 255), abs=1e-6)
    assert ssim(white, black) == pytest.approx(0.01**2 / (1 + 0.01**2))
    assert mse(white, black) == pytest.approx(1, abs=1e-7) and l1(white, black) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("black", [np.zeros((32, 32, 3)), np.zeros((32, 32, 3), np.uint8)])
def test_black_pictures_are_equal_and_nothing_special(black):
    assert ssim(black, black) == 1 and psnr(black, black) == np.inf and mse(black, black) == l1(black, black) == 0
    gray = black + black.dtype.type(51 if black.dtype == np.uint8 else 0.2)
    assert psnr(gray, black) == pytest.approx(-10 * np.log10(0.04), abs=1e-6)
    assert ssim(gray, black) == pytest.approx(0.01**2 / (0.04 + 0.01**2), rel=1e-5)


def test_ssim_of_flat_and_equal_pictures_equals_scikit_image():
    skimage = pytest.importorskip("skimage.metrics")
    flat = np.full((16, 16, 3), 0.3)
    for image in (flat, flat + 0.2, pictures(16, 16)[0]):
        expected = skimage.structural_similarity(image, flat, channel_axis=-1, data_range=1)
        assert abs(ssim(image, flat) - expected) < 1e-6
    assert ssim(flat, flat) == 1


def test_masked_ssim_is_the_mean_of_scikit_images_map_over_the_mask():
    skimage = pytest.importorskip("skimage.metrics")
    image, reference = pictures(40, 32)
    mask = np.zeros((40, 32), bool)
    mask[:20, 5:30] = True  # reaches into the border that SSIM leaves out
    _, full = skimage.structural_similarity(image, reference, channel_axis=-1, data_range=1, full=True)
    expected = full[3:20, 5:29].mean()
    assert abs(ssim(image, reference, mask) - expected) < 1e-9


def test_numbers_worked_out_by_hand():
    reference = np.zeros((8, 8, 3))
    image = reference.copy()
    image[2, 3] = 0.5, 0.0, 0.0
    assert mse(image, reference) == pytest.approx(0.25 / (8 * 8 * 3))
    assert l1(image, reference) == pytest.approx(0.5 / (8 * 8 * 3))
    assert psnr(reference + 0.1, reference) == pytest.approx(20.0)
    mask = np.zeros((8, 8), bool)
    mask[2, 2:4] = True
    assert mse(image, reference, mask) == pytest.approx(0.25 / 6)
    assert psnr(image, reference, mask) == pytest.approx(-10 * np.log10(0.25 / 6))
    assert mse(image, reference, ~mask) == 0
    assert psnr(image, reference, ~mask) == np.inf


def test_an_empty_mask_gives_no_number():
    image, reference = pictures(16, 16)
    assert all(np.isnan(metric(image, reference, np.zeros((16, 16), bool))) for metric in (l1, mse, psnr, ssim))


@pytest.mark.parametrize("metric", [l1, mse, psnr, ssim])
def test_wrong_pictures_are_refused(metric):
    image, reference = pictures(16, 16)
    with pytest.raises(ValueError, match="image is uint8, reference float64: both must be bytes, or both floats"):
        metric((image * 255).astype(np.uint8), reference)
    with pytest.raises(ValueError, match="image is int64"):
        metric((image * 255).astype(np.int64), reference)
    with pytest.raises(ValueError, match=r"reference is float64 .*C up to 4"):
        metric(image, np.zeros((16, 16, 5)))
    with pytest.raises(ValueError, match="one shape"):
        metric(image[:8], reference)
    with pytest.raises(ValueError, match="mask is bool"):
        metric(image, reference, np.ones((9, 8), bool))
    with pytest.raises(ValueError, match="mask is uint8"):
        metric(image, reference, np.ones((16, 16), np.uint8))
    with pytest.raises(ValueError, match="at least 7 x 7"):
        ssim(image[:6], reference[:6])
