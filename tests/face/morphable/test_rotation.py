import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from svp_jax.face.morphable.rotation import from_angles, matrix, rotate, vector
from svp_jax.face.tracking import pose_angles

# Up to rounding, one turn has one vector below pi.
LONGEST = 3.1
numbers = st.floats(-1, 1, width=32)
axes = st.tuples(numbers, numbers, numbers).map(np.array).filter(lambda axis: np.linalg.norm(axis) > 0.01)
vectors = st.tuples(axes, st.floats(0, LONGEST)).map(lambda drawn: drawn[0] / np.linalg.norm(drawn[0]) * drawn[1])
compiled = jax.jit(matrix)


def random_vectors(count: int) -> np.ndarray:
    """[count, 3], of lengths from a hundred-thousandth to nearly pi, with many around the change of formula at 0.01."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(count, 3))
    lengths = np.geomspace(1e-5, LONGEST, count)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths[:, None]


@pytest.mark.parametrize(
    ("axis", "carried"),
    [
        (0, [[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
        (1, [[0, 0, -1], [0, 1, 0], [1, 0, 0]]),
        (2, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    ],
)
def test_quarter_turns(axis, carried):
    """Where x, y and z go."""
    turn = matrix(jnp.eye(3)[axis] * jnp.pi / 2)
    np.testing.assert_allclose(rotate(turn, jnp.eye(3)), carried, atol=1e-6)


def test_matrices_are_scipy_s():
    rotations = random_vectors(300)
    found = compiled(rotations.astype(np.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, Rotation.from_rotvec(rotations).as_matrix(), atol=2e-6)


def test_small_turns_keep_their_digits():
    rotations = random_vectors(300)
    lengths = np.linalg.norm(rotations, axis=1, keepdims=True)
    rotations, lengths = (array[lengths[:, 0] < 0.01] for array in (rotations, lengths))
    m = np.asarray(compiled(rotations.astype(np.float32)), np.float64)
    twice = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], -1)
    error = np.linalg.norm(twice / 2 - rotations * np.sinc(lengths / np.pi), axis=1)
    assert (error < 1e-6 * lengths[:, 0]).all()


def test_leading_axes():
    rotations = random_vectors(12).reshape(2, 6, 3).astype(np.float32)
    flat = compiled(rotations.reshape(12, 3))
    np.testing.assert_allclose(compiled(rotations), flat.reshape(2, 6, 3, 3), atol=1e-6)
    points = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    expected = np.einsum("abij,bj->abi", flat.reshape(2, 6, 3, 3), points)
    np.testing.assert_allclose(rotate(flat.reshape(2, 6, 3, 3), points), expected, atol=1e-6)


def test_no_turn_has_the_generators_as_its_gradient():
    assert (compiled(np.zeros(3, np.float32)) == np.eye(3)).all()
    gradient = jax.jacobian(matrix)(jnp.zeros(3))
    generators = np.zeros((3, 3, 3))
    for x, y, z in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        generators[z, y, x], generators[y, z, x] = 1, -1
    np.testing.assert_allclose(gradient, generators, atol=1e-6)


def test_gradients_are_differences():
    rotations = random_vectors(60)
    found = jax.jit(jax.vmap(jax.jacobian(matrix)))(rotations.astype(np.float32))
    step = 1e-5
    for axis in range(3):
        ahead, behind = (Rotation.from_rotvec(rotations + s * step * np.eye(3)[axis]).as_matrix() for s in (1, -1))
        np.testing.assert_allclose(found[..., axis], (ahead - behind) / (2 * step), atol=1e-5)


@given(vectors)
def test_vectors_come_back(rotation):
    # Rounding of the matrix to float32; at angles near pi its effect on the axis is at its largest.
    np.testing.assert_allclose(vector(compiled(rotation.astype(np.float32))), rotation, atol=1e-5)


@given(axes)
def test_half_turns_have_either_sign(axis):
    axis = axis / np.linalg.norm(axis)
    found = vector(Rotation.from_rotvec(np.pi * axis).as_matrix())
    assert found.dtype == np.float64
    np.testing.assert_allclose(found * np.sign(found @ axis), np.pi * axis, atol=1e-6)


def test_vectors_of_many_matrices():
    rotations = random_vectors(20).reshape(4, 5, 3)
    found = vector(Rotation.from_rotvec(rotations.reshape(-1, 3)).as_matrix().reshape(4, 5, 3, 3))
    np.testing.assert_allclose(found, rotations, atol=1e-9)
    assert (vector(np.eye(3)) == 0).all()


@pytest.mark.parametrize(
    ("angles", "seen"),
    [((90, 0, 0), [1, 0, 0]), ((0, 90, 0), [0, 1, 0]), ((30, 0, 50), [0.5, 0, np.sqrt(0.75)]), ((0, 0, 90), [0, 0, 1])],
)
def test_where_a_face_of_some_angles_looks(angles, seen):
    np.testing.assert_allclose(from_angles(*angles) @ [0, 0, 1], seen, atol=1e-9)


def test_roll_is_counter_clockwise():
    np.testing.assert_allclose(from_angles(0, 0, 90) @ [1, 0, 0], [0, 1, 0], atol=1e-9)


@given(st.floats(-179, 179), st.floats(-85, 85), st.floats(-179, 179))
def test_angles_come_back(yaw, pitch, roll):
    pose = np.eye(4)
    pose[:3, :3] = from_angles(yaw, pitch, roll)
    np.testing.assert_allclose(pose_angles(pose), [yaw, pitch, roll], atol=1e-6)


def test_angles_of_many():
    many = np.array([[0, 10, 20], [-30, 5, 1]])
    found = from_angles(many, 2 * many, -many)
    assert found.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(found[1, 0], from_angles(-30, -60, 30), atol=1e-12)
