"""Training frames and their moved copies."""

import numpy as np
import pytest

from svp_jax.capture.capture import open_capture
from svp_jax.training.views import SCALE, SHIFT, move, read_targets, stage_condition, training_views


@pytest.fixture(scope="module")
def capture(capture_folder):
    return open_capture(capture_folder)


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_the_first_views_are_the_frames_as_they_are(capture, stage):
    frames = capture.train_indices
    for copies in (0, 3):
        views = training_views(capture, copies, seed=1)
        assert len(views) == (1 + copies) * len(frames)
        numbers = np.arange(len(frames))
        np.testing.assert_array_equal(views.targets(stage, numbers), read_targets(capture, stage)(frames))
        np.testing.assert_array_equal(views.condition(stage, numbers, 3), stage_condition(capture, stage, frames, 3))


def test_picture_and_conditions_of_a_copy_move_alike(capture):
    """All maps of these captures show the same disc: its middle goes to the same place in each."""
    views = training_views(capture, copies=1, seed=1)
    count = len(capture.train_indices)

    def middles(images):
        return np.array([np.argwhere(image.any(-1)).mean(0)[::-1] for image in images])

    before = np.arange(count)
    parsing = middles(views.targets("outlines", before)), middles(views.targets("outlines", before + count))
    condition = views.condition("details", before, 3), views.condition("details", before + count, 3)
    for channels in (slice(0, 3), slice(3, 6)):
        start, end = (middles(images[..., channels]) for images in condition)
        expected = np.einsum("nij,nj->ni", views.moves[count:], np.c_[start, np.ones(count)])
        # What lies at an edge is cut or repeated there, so only discs that stay inside are compared.
        inside = (np.abs(expected - capture.size / 2) < capture.size / 6).all(1)
        assert inside.sum() > count / 3
        assert np.abs(end - expected)[inside].max() < 1.0
        assert np.abs(end - parsing[1])[inside].max() < 1.0
    assert np.abs(parsing[1] - parsing[0]).max() > 2


def test_moves_stay_in_their_range_and_depend_on_the_seed(capture):
    views = training_views(capture, copies=20, seed=1)
    moves = views.moves[len(capture.train_indices) :]
    assert np.abs(np.log(moves[:, 0, 0])).max() <= SCALE
    middle = (capture.size - 1) / 2
    moved = moves @ np.array([middle, middle, 1.0]) - middle
    assert np.abs(moved).max() <= SHIFT * capture.size + 1e-3
    assert np.abs(moved).max() > 0.8 * SHIFT * capture.size
    assert training_views(capture, 20, seed=1).source_hash() == views.source_hash()
    for other in (training_views(capture, 20, seed=2), training_views(capture, 19, seed=1)):
        assert other.source_hash() != views.source_hash()


def test_a_shift_by_whole_pixels_repeats_the_edge():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 9), np.uint8)
    moved = move(image, np.array([[[1, 0, 2], [0, 1, -1]]], np.float32))
    expected = np.pad(image, ((0, 0), (0, 1), (2, 0), (0, 0)), mode="edge")[:, 1:, :8]
    np.testing.assert_array_equal(moved, expected)
