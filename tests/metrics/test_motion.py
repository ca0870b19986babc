"""Flicker, warping error, tOF, tLPIPS and landmark jitter where the answer is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_jax.face.smoothing import jitter
from svp_jax.metrics import flicker, landmark_jitter, smoothness, tlpips, tof, warping_error
from svp_jax.metrics.flow import Motion, motion_between, optical_flow

SIDE = 128


def moving(frames, step):
    """uint8 [frames, SIDE, SIDE, 3]: a texture, calm enough not to be cut off, that moves by `step` (x, y) pixels."""
    rng = np.random.default_rng(0)
    noise = np.tile(rng.uniform(size=(SIDE, SIDE, 3)).astype(np.float32), (3, 3, 1))
    blurred = cv2.GaussianBlur(noise, (0, 0), 3)[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
    texture = np.clip(128 + 25 * (blurred - blurred.mean()) / blurred.std(), 20, 235).astype(np.uint8)
    return np.stack([np.roll(texture, (step[1] * n, step[0] * n), axis=(0, 1)) for n in range(frames)])


def flickering(video, amplitude):
    """`video` with every second frame brighter by `amplitude` grey levels."""
    return video + (np.arange(len(video), dtype=np.uint8) % 2 * amplitude)[:, None, None, None].astype(np.uint8)


def measure(video, reference, mask=None):
    """Means over pairs of consecutive frames: (warping error, tOF)."""
    warping, flows = [], []
    for n in range(1, len(video)):
        motion = motion_between(reference[n - 1], reference[n])
        warping.append(warping_error(video[n - 1], video[n], motion, mask))
        flows.append(tof(optical_flow(video[n - 1], video[n]), motion.forward, mask))
    return np.mean(warping), np.mean(flows)


def test_identical_videos_do_not_differ_and_still_ones_do_not_move():
    video = moving(3, (2, 1))
    warping, flow = measure(video, video)
    assert flow == 0
    # Flow is right to a few hundredths of a pixel; a pixel's step changes the texture by 60 times as much.
    plain = np.mean(np.square(np.diff(video / 255, axis=0)))
    assert 0 < warping < plain / 100
    still = moving(3, (0, 0))
    # Not quite 0: Farnebäck's borders move by up to a tenth of a pixel.
    warping, flow = measure(still, still)
    assert flow == 0 and warping < 1e-7
    assert flicker(still[0], still[1]) == 0


@pytest.mark.parametrize("step", [(1, 0), (3, 0), (3, -4)])
def test_tof_of_a_shift_against_a_still_picture_is_the_shift(step):
    video, still = moving(2, step), moving(2, (0, 0))
    mask = np.zeros((SIDE, SIDE), bool)
    mask[24:-24, 24:-24] = True
    # Inside Farnebäck is right to a fiftieth of a pixel, at the borders the texture comes in from the other side.
    length = np.hypot(*step)
    assert measure(video, still, mask)[1] == pytest.approx(length, abs=0.05)
    assert measure(video, still)[1] == pytest.approx(length, rel=0.2)


def test_tof_by_hand_and_with_a_mask():
    flow, reference = np.zeros((4, 6, 2), np.float32), np.zeros((4, 6, 2), np.float32)
    flow[:, :3] = 3, 4
    reference[:, 3:] = 0, 1
    assert tof(flow, reference) == pytest.approx(3)
    right = np.zeros((4, 6), bool)
    right[:, 3:] = True
    assert tof(flow, reference, right) == 1
    assert np.isnan(tof(flow, reference, np.zeros((4, 6), bool)))
    with pytest.raises(ValueError, match="one shape"):
        tof(flow, reference[:2])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 20), st.sampled_from([np.uint8, np.float32, np.float64]))
def test_flicker_of_an_amplitude_is_that_and_its_warping_error_the_square(amplitude, dtype):
    still = moving(3, (0, 0))[:, :40, :40]
    video = flickering(still, amplitude)
    unmoved = np.zeros((40, 40, 2), np.float32)
    motion = Motion(unmoved, unmoved, np.ones((40, 40), bool))
    if dtype != np.uint8:
        still, video = (still / 255).astype(dtype), (video / 255).astype(dtype)
    share = amplitude / 255
    for n in (1, 2):
        # Single precision of numbers up to 1.
        assert flicker(video[n - 1], video[n]) == pytest.approx(share, abs=1e-6)
        assert warping_error(video[n - 1], video[n], motion) == pytest.approx(share**2, abs=1e-6)
    np.testing.assert_allclose(smoothness(video, still), share, atol=1e-6)


def test_flicker_on_a_moving_reference_shows_in_the_warping_error():
    reference = moving(3, (2, 0))
    calm, _ = measure(reference, reference)
    flickers, _ = measure(flickering(reference, 20), reference)
    # The flicker's square, and what the flow is off by, which both have.
    assert flickers == pytest.approx((20 / 255) ** 2 + calm, rel=0.05)


def test_shuffled_frames_are_worse_in_every_way():
    reference = moving(6, (1, 1))
    shuffled = reference[[0, 3, 1, 5, 2, 4]]
    in_order, out_of_order = measure(reference, reference), measure(shuffled, reference)
    assert out_of_order[0] > 10 * in_order[0]
    assert out_of_order[1] > 1 > in_order[1]
    pairs = list(zip(range(5), range(1, 6), strict=True))
    assert np.mean([flicker(shuffled[a], shuffled[b]) for a, b in pairs]) > 1.5 * np.mean(
        [flicker(reference[a], reference[b]) for a, b in pairs]
    )
    assert (smoothness(reference, reference) == 0).all() and (smoothness(shuffled, reference) > 0.01).all()


def test_warping_error_follows_the_references_motion_and_counts_what_both_frames_show():
    before, now = np.zeros((6, 8, 3)), np.zeros((6, 8, 3))
    before[2, 3], now[2, 4] = 1.0, 1.0
    backward = np.zeros((6, 8, 2), np.float32)
    everywhere = np.ones((6, 8), bool)
    assert warping_error(before, now, Motion(backward, backward, everywhere)) == pytest.approx(2 / 48)
    backward[..., 0] = -1  # as the point moves
    assert warping_error(before, now, Motion(-backward, backward, everywhere)) == 0
    now[0, 0] = 0.5
    assert warping_error(before, now, Motion(-backward, backward, everywhere)) == pytest.approx(0.25 / 48)
    unseen = everywhere.copy()
    unseen[0, 0] = False
    assert warping_error(before, now, Motion(-backward, backward, unseen)) == 0
    corner = ~unseen
    assert warping_error(before, now, Motion(-backward, backward, everywhere), corner) == pytest.approx(0.25)
    assert np.isnan(warping_error(before, now, Motion(-backward, backward, unseen), corner))


def test_flicker_counts_the_mask_and_motion_of_bytes_equals_that_of_floats():
    video, reference = flickering(moving(3, (1, 0)), 9), moving(3, (0, 2))
    mask = np.zeros((SIDE, SIDE), bool)
    mask[5:60, 7:70] = True
    for chosen in (None, mask):
        expected = np.abs(video[1] / 255 - video[0] / 255)[... if chosen is None else chosen].mean()
        assert flicker(video[0], video[1], chosen) == pytest.approx(expected, abs=1e-7)
    masks = np.stack([mask, ~mask, mask])
    expected = smoothness(video / 255, reference / 255, masks)
    np.testing.assert_allclose(smoothness(video, reference, masks), expected, atol=1e-7)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=5))
def test_tlpips_is_the_difference_of_both_videos_distances(pairs):
    ours, theirs = np.array(pairs).T
    np.testing.assert_array_equal(tlpips(ours, theirs), np.abs(ours - theirs))
    np.testing.assert_array_equal(tlpips(ours, theirs), tlpips(theirs, ours))
    assert (tlpips(ours, ours) == 0).all() and np.isnan(tlpips(np.nan, ours)).all()


def test_landmark_jitter_is_zero_of_even_motion_and_four_of_a_tremble_by_one():
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 100, (70, 3))
    follows = np.array([False, *[True] * 7])
    even = start + np.arange(8)[:, None, None] * np.array([2.0, -1, 5])
    assert landmark_jitter(even, follows) == pytest.approx(0, abs=1e-9)
    trembling = even + np.where(np.arange(8) % 2, 1.0, -1.0)[:, None, None]
    assert landmark_jitter(trembling, follows) == pytest.approx(4)
    # The same as that of a fitted face.
    noisy = even + rng.normal(size=even.shape)
    assert landmark_jitter(noisy, follows) == pytest.approx(jitter(noisy[:, 17:68], np.zeros(8, int)))


def test_landmark_jitter_stays_within_shots_and_leaves_gaps_out():
    points = np.zeros((7, 70, 2))
    points[3:] = 50  # the next shot
    follows = np.array([False, True, True, False, True, True, True])
    assert landmark_jitter(points, follows) == 0
    assert landmark_jitter(points, np.ones(7, bool)) > 0
    points[5] = np.nan  # leaves two frames, and one
    points[:3, :, 0] += np.array([0, 1, 0])[:, None]
    assert landmark_jitter(points, follows) == pytest.approx(1)
    assert np.isnan(landmark_jitter(points[3:], follows[3:]))
    assert np.isnan(landmark_jitter(points[:2], follows[:2])) and np.isnan(landmark_jitter(points[:0], follows[:0]))
    with pytest.raises(ValueError, match="7 frames, follows of 6"):
        landmark_jitter(points, follows[1:])
