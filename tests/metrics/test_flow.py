"""Optical flow, warping and visibility on pictures whose motion is known."""

import cv2
import numpy as np
import pytest

from svp_jax.metrics.flow import motion_between, optical_flow, visible, warp


def texture(size=160, seed=0):
    """uint8 [size, size, 3] with detail at several scales, continued periodically."""
    rng = np.random.default_rng(seed)
    noise = np.tile(rng.uniform(size=(size, size, 3)).astype(np.float32), (3, 3, 1))
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma)[size : 2 * size, size : 2 * size] for sigma in (2, 5)]
    mixed = sum((layer - layer.mean()) / layer.std() for layer in layers)
    return np.clip(128 + 30 * mixed, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-2, 4)])
def test_flow_is_the_shift_of_a_texture(shift):
    picture = texture()
    moved = np.roll(picture, (shift[1], shift[0]), axis=(0, 1))
    flow = optical_flow(picture, moved)
    assert flow.dtype == np.float32 and flow.shape == (160, 160, 2)
    # Farnebäck fits parabolas to grey values: a fiftieth of a pixel inside; borders see what comes in from outside.
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), shift, atol=0.05)
    if shift == (0, 0):
        # Where nothing moves, Farnebäck's borders do a little: they lack what lies beyond.
        assert np.abs(flow).max() < 0.2 and np.abs(flow[20:-20, 20:-20]).max() < 1e-3


def test_flow_does_not_depend_on_threads():
    first, second = texture(), np.roll(texture(), 3, axis=1)
    before = cv2.getNumThreads()
    try:
        flows = []
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            flows.append(optical_flow(first, second))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*flows)


def test_warp_takes_pixels_from_where_flow_points():
    y, x = np.mgrid[:6, :8].astype(np.float32)
    picture = np.stack([x, 10 * y, x * y], axis=-1)
    flow = np.zeros((6, 8, 2), np.float32)
    flow[..., 0], flow[..., 1] = 1.25, -0.5
    warped = warp(picture, flow)
    expected_x, expected_y = np.minimum(x + 1.25, 7), np.maximum(y - 0.5, 0)
    expected = np.stack([expected_x, 10 * expected_y, expected_x * expected_y], axis=-1)
    np.testing.assert_allclose(warped, expected, atol=1e-5)
    assert warp(picture[..., :1], flow).shape == (6, 8, 1)


def steady(shift, size=20):
    return np.broadcast_to(np.float32(shift), (size, size, 2)).copy()


def test_a_shift_leaves_visible_what_was_in_the_picture_before():
    seen = visible(steady((-3, 2)), steady((3, -2)))
    expected = np.zeros((20, 20), bool)
    expected[:18, 3:] = True  # the rest came in from the left and from below
    np.testing.assert_array_equal(seen, expected)


def test_flow_that_does_not_lead_back_is_occluded():
    back = steady((2, 0))
    back[:, 5:8] = 0  # 2 pixels off: 4 > 0.01 * 4 + 0.5
    seen = visible(steady((-2, 0)), back)
    expected = np.ones((20, 20), bool)
    expected[:, :2] = False
    expected[:, 7:10] = False  # these point to the columns 5 to 7
    np.testing.assert_array_equal(seen, expected)
    # 0.7 pixels off are forgiven: 0.49 < 0.5; 0.75 with so little flow are not.
    assert visible(steady((0, 0)), steady((0.7, 0))).all()
    assert not visible(steady((0, 0)), steady((0.75, 0))).any()


def test_edges_between_motions_are_left_out():
    flow = steady((0, 0))
    flow[:, 10:] = 0.3  # 0.18 > 0.01 * |w|^2 + 0.002 at the last column before, whose neighbour differs
    seen = visible(flow, -flow)
    expected = np.ones((20, 20), bool)
    expected[:, 9] = False
    np.testing.assert_array_equal(seen, expected)


def test_motion_between_frames_that_stand_still_sees_all_but_at_borders():
    motion = motion_between(texture(), texture())
    assert motion.visible[20:-20, 20:-20].all() and motion.visible.mean() > 0.98
    np.testing.assert_array_equal(motion.forward, motion.backward)


def test_a_moving_square_hides_what_lies_before_it_and_shows_what_lay_behind():
    before, now = texture(), texture()
    square = texture(seed=1)[:50, :50]
    before[50:100, 40:90], now[50:100, 48:98] = square, square
    motion = motion_between(before, now)
    # What the square uncovers was not visible before; the background far from it was.
    assert motion.visible[60:90, 41:47].mean() < 0.5
    assert motion.visible[120:].mean() > 0.9
    np.testing.assert_allclose(np.median(motion.backward[60:90, 60:85], axis=(0, 1)), [-8, 0], atol=0.3)


def test_wrong_pictures_are_refused():
    picture = texture()
    with pytest.raises(ValueError, match=r"start is float64 .*, allowed: uint8"):
        optical_flow(picture / 255, picture)
    with pytest.raises(ValueError, match=r"end is uint8 \(160, 160\)"):
        optical_flow(picture, picture[..., 0])
    with pytest.raises(ValueError, match="one shape"):
        optical_flow(picture, picture[:100])
