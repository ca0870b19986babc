"""Smoothness by hand."""

import numpy as np

from svp_jax.metrics import smoothness


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
