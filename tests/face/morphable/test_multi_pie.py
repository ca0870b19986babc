import numpy as np
import pytest

from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.canonical_mesh import canonical_face
from svp_jax.face.morphable import multi_pie
from svp_jax.face.morphable.multi_pie import COUNT, FROM_MEDIAPIPE, eye_corners, eye_distance, points_of


@pytest.fixture
def landmarks():
    """[2, 478, 3], all numbers different."""
    return np.arange(2 * 478 * 3, dtype=np.float32).reshape(2, 478, 3)


def test_seventy_different_landmarks():
    assert COUNT == len({*FROM_MEDIAPIPE}) == 70
    slices = [multi_pie.JAW, multi_pie.BROWS, multi_pie.NOSE, multi_pie.EYES, multi_pie.LIPS, multi_pie.IRISES]
    assert np.concatenate([np.arange(COUNT)[part] for part in slices]).tolist() == [*range(COUNT)]
    assert np.arange(COUNT)[multi_pie.INNER].tolist() == [*range(17, 68)]


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        (multi_pie.JAW, mesh.FACE_OVAL),
        (slice(17, 22), mesh.RIGHT_BROW),
        (slice(22, 27), mesh.LEFT_BROW),
        (slice(36, 42), mesh.RIGHT_EYE),
        (slice(42, 48), mesh.LEFT_EYE),
        (multi_pie.LIPS, mesh.UPPER_LIP + mesh.LOWER_LIP),
        (slice(68, 69), mesh.RIGHT_IRIS[:1]),
        (slice(69, 70), mesh.LEFT_IRIS[:1]),
    ],
)
def test_groups_are_those_of_the_mesh(where, allowed):
    assert {*FROM_MEDIAPIPE[where]} <= {*allowed}


def test_points_lie_in_the_order_of_multi_pie(shared):
    """On MediaPipe's own average face, x to the picture's right and y up."""
    points = canonical_face(shared / "models" / "face_landmarker.task")[np.array(FROM_MEDIAPIPE[:68])]
    x, y, _ = points.T
    # From the subject's right, the picture's left, to the left, and down along the nose.
    for start, stop in ((0, 17), (17, 27), (31, 36), (48, 55), (60, 65)):
        assert (np.diff(x[start:stop]) > 0).all()
    assert (np.diff(y[27:31]) < 0).all() and y.argmin() == multi_pie.CHIN
    assert x[36] < x[39] < 0 < x[42] < x[45]
    assert (y[[37, 38, 43, 44]] > y[[41, 40, 47, 46]]).all()
    assert y[51] > y[62] > y[66] > y[57] and x[55] > x[59] and x[65] > x[67]
    # The face's two sides mirror each other.
    mirrored = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    mirrored += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirrored += [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
    np.testing.assert_allclose(points[mirrored] * [-1, 1, 1], points, atol=1e-4)


def test_points_of_mediapipe_s_landmarks(landmarks):
    found = points_of(landmarks)
    assert found.shape == (2, 70, 3)
    for place in (0, 8, 30, 36, 69):
        np.testing.assert_array_equal(found[:, place], landmarks[:, FROM_MEDIAPIPE[place]])


def test_points_stay_themselves(landmarks):
    sparse = landmarks[:, :70]
    assert points_of(sparse) is sparse


@pytest.mark.parametrize("count", [68, 468])
def test_other_landmarks_are_refused(landmarks, count):
    message = rf"^landmarks: got {count} points, allowed are 478 \(MediaPipe\) or 70 \(Multi-PIE\)$"
    with pytest.raises(ValueError, match=message):
        points_of(landmarks[:, :count])


def test_eye_distance_is_the_picture_s():
    points = np.zeros((2, 70, 3), np.float32)
    points[0, 36], points[0, 45] = [10, 20, 5], [13, 24, 90]
    points[1, 36], points[1, 45] = [0, 0, 0], [-6, 8, 0]
    np.testing.assert_allclose(eye_distance(points), [5, 10])
    np.testing.assert_allclose(eye_distance(points[..., :2]), [5, 10])
    right, left = eye_corners(points)
    assert right[0].tolist() == [10, 20, 5] and left[1].tolist() == [-6, 8, 0]
