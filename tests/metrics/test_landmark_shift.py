"""Local matching on pictures that were moved by a known amount."""

import cv2
import numpy as np
import pytest

from svp_jax.metrics import landmark_shift


def scene(height=120, width=160, seed=4):
    """Blobs of random colours, blurred: structure everywhere."""
    noise = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)


def moved(image, dx, dy):
    return np.roll(image, (dy, dx), axis=(0, 1))


LANDMARKS = np.array([[60.5, 50.5], [80.2, 70.9], [100.0, 40.0], [50.0, 90.0]])


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (5, -3), (-8, 8), (7, 0)])
def test_a_moved_picture_is_found_where_it_went(dx, dy):
    image = scene()
    shifts = landmark_shift(moved(image, dx, dy), image, LANDMARKS, patch=15, search=8)
    np.testing.assert_array_equal(shifts, np.tile([dx, dy], (4, 1)))


def test_parts_that_move_apart_get_their_own_shift():
    image = scene()
    frame = np.concatenate([moved(image, 4, 0)[:, :80], moved(image, -6, 2)[:, 80:]], axis=1)
    landmarks = np.array([[40.0, 60.0], [120.0, 60.0]])
    shifts = landmark_shift(frame, image, landmarks, patch=21, search=10)
    np.testing.assert_array_equal(shifts, [[4, 0], [-6, 2]])


def test_other_colours_do_not_matter():
    image = scene()
    recoloured = (255 - moved(image, 3, 6).astype(float) * [0.5, 0.6, 0.4]).astype(np.uint8)
    shifts = landmark_shift(recoloured, image, LANDMARKS, patch=21, search=10)
    np.testing.assert_array_equal(shifts, np.tile([3, 6], (4, 1)))


def test_no_answer_at_the_border_or_without_structure():
    image = scene()
    image[:, 80:] = 128
    landmarks = np.array([[5.0, 60.0], [140.0, 60.0], [60.0, 118.0], [np.nan, 60.0], [40.0, 60.0]])
    shifts = landmark_shift(image, image, landmarks, patch=15, search=8)
    assert np.isnan(shifts[:4]).all()
    np.testing.assert_array_equal(shifts[4], [0, 0])


def test_wrong_calls_are_named():
    image = scene()
    with pytest.raises(ValueError, match="patch is 4"):
        landmark_shift(image, image, LANDMARKS, patch=4, search=3)
    with pytest.raises(ValueError, match="must be equal"):
        landmark_shift(image[:50], image, LANDMARKS, patch=5, search=3)
