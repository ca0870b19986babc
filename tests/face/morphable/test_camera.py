import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.face.morphable.camera import Camera

CAMERA = Camera(np.float32(200), np.array([60, 40], np.float32))


def test_projection_by_hand():
    points = np.array([[0, 0, -10], [1, 0, -10], [0, 1, -10], [1, 1, -20], [-3, 2, -4]], np.float32)
    # x grows to the right, y downwards, depth away from the camera.
    expected = [[60, 40, 10], [80, 40, 10], [60, 20, 10], [70, 30, 20], [-90, -60, 4]]
    found = CAMERA.project(points)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == jnp.float32


def test_points_of_many_frames():
    points = np.random.default_rng(0).uniform([-1, -1, -9], [1, 1, -5], (2, 7, 3)).astype(np.float32)
    found = CAMERA.project(points)
    assert found.shape == (2, 7, 3)
    np.testing.assert_allclose(found[1, 4], CAMERA.project(points[1, 4]), rtol=1e-6)


def test_twice_the_picture_has_twice_the_pixels():
    points = np.random.default_rng(0).uniform([-1, -1, -9], [1, 1, -5], (7, 3)).astype(np.float32)
    near, far = np.asarray(CAMERA.project(points)), np.asarray(CAMERA.scaled(2.5).project(points))
    np.testing.assert_allclose(far, near * [2.5, 2.5, 1], rtol=1e-6)
    assert CAMERA.scaled(2.5).focal == 500 and CAMERA.scaled(2.5).centre.tolist() == [150, 100]


def test_cameras_are_arguments_of_compiled_functions():
    point = np.array([1, 2, -4], np.float32)
    moved = jax.jit(jax.jacobian(lambda camera: camera.project(point)))(CAMERA)
    # d (x, y, depth) / d focal is (X, -Y, 0) / depth.
    np.testing.assert_allclose(moved.focal, [0.25, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(moved.centre, [[1, 0], [0, 1], [0, 0]], atol=1e-6)
