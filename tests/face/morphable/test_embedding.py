import jax
import numpy as np
import pytest

from svp_jax.face.morphable.embedding import Embedding, at_vertices, joined

VERTICES = np.array([[0, 0, 0], [4, 0, 0], [0, 8, 0], [0, 0, 2]], np.float32)


@pytest.fixture
def points():
    """A corner, the middle of an edge, and a place within a triangle."""
    weights = [[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]]
    return Embedding(np.array([[3, 1, 0], [1, 2, 0], [0, 1, 2]], np.int32), np.array(weights, np.float32))


def test_places_are_weighted_sums_of_corners(points):
    assert len(points) == 3
    np.testing.assert_allclose(points.points(VERTICES), [[0, 0, 2], [2, 4, 0], [1, 4, 0]])


def test_they_move_with_the_vertices(points):
    shift = np.array([1, 2, 3], np.float32)
    frames = np.stack([VERTICES, 2 * VERTICES, VERTICES + shift])
    found = points.points(frames)
    assert found.shape == (3, 3, 3)
    np.testing.assert_allclose(found[1], 2 * found[0])
    np.testing.assert_allclose(found[2], found[0] + shift)


def test_points_can_be_vertices():
    found = at_vertices([3, 1])
    assert found.corners.dtype == np.int32 and found.weights.dtype == np.float32
    np.testing.assert_array_equal(found.points(VERTICES), VERTICES[[3, 1]])
    assert len(at_vertices([])) == 0


@pytest.mark.parametrize("which", [np.array([2, 0]), slice(1, 3), np.array([True, False, True])])
def test_taken_is_indexing(points, which):
    np.testing.assert_array_equal(points.taken(which).points(VERTICES), points.points(VERTICES)[which])


def test_common_labels(points):
    np.testing.assert_array_equal(points.taken([0, 1]).common(np.array([1, 2, 2, 5])), [5, 2])
    # A corner of weight 0 has no say, wherever it stands.
    point = Embedding(np.array([[3, 1, 2]], np.int32), np.array([[0, 0.5, 0.5]], np.float32))
    np.testing.assert_array_equal(point.common(np.array([1, 2, 2, 5])), [2])
    with pytest.raises(ValueError, match="between parts"):
        points.common(np.array([1, 2, 2, 5]))


def test_joined_keeps_the_order(points):
    found = joined(points, at_vertices([2]), points.taken([1]))
    np.testing.assert_array_equal(found.points(VERTICES), [[0, 0, 2], [2, 4, 0], [1, 4, 0], [0, 8, 0], [2, 4, 0]])


def test_gradients_are_the_weights(points):
    gradient = jax.jit(jax.grad(lambda vertices: points.points(vertices)[2, 1]))(VERTICES)
    np.testing.assert_allclose(gradient, [[0, 0.25, 0], [0, 0.25, 0], [0, 0.5, 0], [0, 0, 0]])
