"""Training frames and their moved copies."""

import numpy as np
import pytest

from svp_jax.capture.capture import open_capture
from svp_jax.face.rasterizer import render_normals
from svp_jax.training.views import (
    SCALE,
    SHIFT,
    TURN,
    make_moves,
    move,
    read_targets,
    stage_condition,
    training_views,
    turn_normals,
)


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
    scale = np.sqrt(np.linalg.det(moves[:, :, :2]))
    turn = np.arctan2(moves[:, 1, 0], moves[:, 0, 0])
    assert 0.8 * SCALE < np.abs(np.log(scale)).max() <= SCALE + 1e-6
    assert 0.8 * TURN < np.abs(turn).max() <= TURN + 1e-6
    np.testing.assert_allclose(moves[:, 0, :2] @ [1, 0], moves[:, 1, :2] @ [0, 1], atol=1e-6)
    middle = (capture.size - 1) / 2
    moved = moves @ np.array([middle, middle, 1.0]) - middle
    assert np.abs(moved).max() <= SHIFT * capture.size + 1e-3
    assert np.abs(moved).max() > 0.8 * SHIFT * capture.size
    assert training_views(capture, 20, seed=1).source_hash() == views.source_hash()
    for other in (training_views(capture, 20, seed=2), training_views(capture, 19, seed=1)):
        assert other.source_hash() != views.source_hash()


def test_normals_turn_with_the_surface():
    """A moved picture of a tilted triangle is the picture of the moved triangle."""
    triangle = np.array([[30.0, 20.0, 0.0], [100.0, 40.0, 40.0], [60.0, 110.0, -30.0]])
    matrix = make_moves(1, 1, 128, seed=3)[1:]
    linear, shift = matrix[0, :, :2], matrix[0, :, 2]
    assert abs(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))) > 3
    scale = np.sqrt(np.linalg.det(linear))
    # Pixel centres lie at integer + 0.5 for the rasterizer, at integers for moves.
    moved = np.c_[(triangle[:, :2] - 0.5) @ linear.T + shift + 0.5, triangle[:, 2] * scale]
    faces = np.array([[0, 1, 2]])
    before, expected = (render_normals(points, faces, 128, 128)[None] for points in (triangle, moved))
    found = move(turn_normals(before, matrix), matrix)
    inside = move(before.any(-1, keepdims=True).repeat(3, -1).astype(np.uint8) * 255, matrix)[..., 0] == 255
    assert inside.sum() > 1000
    # One level of rounding in each of the two renders.
    assert np.abs(found.astype(int) - expected)[inside].max() <= 2
    assert np.abs(before[0, 50, 60].astype(int) - expected[0, 50, 60]).max() > 5
    assert not turn_normals(np.zeros_like(before), matrix).any()


def test_a_shift_by_whole_pixels_repeats_the_edge():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 9), np.uint8)
    moved = move(image, np.array([[[1, 0, 2], [0, 1, -1]]], np.float32))
    expected = np.pad(image, ((0, 0), (0, 1), (2, 0), (0, 0)), mode="edge")[:, 1:, :8]
    np.testing.assert_array_equal(moved, expected)
