from collections import Counter

import numpy as np
import pytest

from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.labels import LABEL_INDEX


def face_in(real_face, size: int) -> np.ndarray:
    image, landmarks = real_face
    return landmarks * (size / len(image))


def test_mesh_is_oriented_alike_and_open_at_the_mouth_alone():
    edges = Counter()
    for a, b, c in mesh.triangles():
        edges.update([(a, b), (b, c), (c, a)])
    assert max(edges.values()) == 1, "two triangles wind against each other"
    border = {vertex for a, b in edges if (b, a) not in edges for vertex in (a, b)}
    assert border == {*mesh.FACE_OVAL, *mesh.INNER_MOUTH}


def test_normals_point_to_the_viewer_and_outwards(real_face):
    landmarks = face_in(real_face, 256)
    colors = mesh.render_geometry(landmarks, 256).astype(float)
    covered = colors.any(axis=-1)
    assert 0.1 < covered.mean() < 0.5
    normals = colors / 127.5 - 1
    assert np.mean(normals[covered][:, 2] > 0) > 0.97
    columns = np.indices(covered.shape)[1]
    left = covered & (columns < landmarks[4, 0] - 25)
    right = covered & (columns > landmarks[4, 0] + 25)
    assert normals[left][:, 0].mean() < -0.3 < 0.3 < normals[right][:, 0].mean()
    rows = np.indices(covered.shape)[0]
    chin = covered & (rows > landmarks[152, 1] - 8)
    assert normals[chin][:, 1].mean() < -0.2


@pytest.mark.parametrize("pitch", [-20, 0, 25])
def test_open_mouth_is_a_hole_and_eyes_are_not(real_face, pitch):
    """Upwards (above 0) too, where the skull's inside would be seen through it."""
    landmarks = face_in(real_face, 256)
    angle, middle = np.radians(pitch), landmarks.mean(axis=0)
    cosine, sine = np.cos(angle), np.sin(angle)
    back = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    landmarks = (landmarks - middle) @ back.T + middle
    covered = mesh.render_geometry(landmarks, 256).any(axis=-1)
    inside = mesh.region(landmarks, mesh.INNER_MOUTH, 256) == 255
    assert inside.sum() > 20 and covered[inside].mean() < 0.1
    for eye in (mesh.RIGHT_EYE, mesh.LEFT_EYE):
        opening = mesh.region(landmarks, eye, 256) == 255
        assert opening.sum() > 20 and covered[opening].all()


@pytest.mark.parametrize("size", [64, 256])
def test_iris_map(real_face, size):
    landmarks = face_in(real_face, size)
    right, left, opening = np.moveaxis(mesh.iris_map(landmarks, size).astype(int), -1, 0)
    assert (np.maximum(right, left) <= opening).all()
    assert not (np.minimum(right, left) > 0).any()
    for channel, iris in ((right, mesh.RIGHT_IRIS), (left, mesh.LEFT_IRIS)):
        centre, radius = mesh.iris_circle(landmarks, iris)
        rows, columns = np.indices(channel.shape) + 0.5
        mean = np.array([(columns * channel).sum(), (rows * channel).sum()]) / channel.sum()
        # The lids hide a part; 0.15 radii were measured.
        assert np.abs(mean - centre).max() < 0.25 * radius
        assert channel.sum() / 255 <= 1.1 * np.pi * radius**2 + 1
    # The subject's right is at the picture's left.
    assert right.sum(axis=0).argmax() < left.sum(axis=0).argmax()


def test_closed_lids_show_no_iris(real_face):
    landmarks = face_in(real_face, 128).copy()
    lower, upper = list(mesh.RIGHT_EYE[:9]), [33, *mesh.RIGHT_EYE[:8:-1], 133]
    landmarks[upper] = landmarks[lower]
    right, left, _ = np.moveaxis(mesh.iris_map(landmarks, 128).astype(int), -1, 0)
    assert (right > 127).sum() == 0 < 5 < (left > 127).sum()


def test_parts_are_where_they_belong(real_face):
    landmarks = face_in(real_face, 256)
    labels = np.zeros((256, 256), np.uint8)
    mesh.draw_parts(labels, landmarks)

    def middle(name: str) -> np.ndarray:
        rows, columns = np.nonzero(labels == LABEL_INDEX[name])
        assert len(rows) > 5, name
        return np.array([columns.mean(), rows.mean()])

    assert middle("right_eye")[0] < middle("nose")[0] < middle("left_eye")[0]
    assert middle("right_brow")[1] < middle("right_eye")[1] < middle("nose")[1]
    assert middle("nose")[1] < middle("upper_lip")[1] < middle("inner_mouth")[1] < middle("lower_lip")[1]
    iris = labels == LABEL_INDEX["iris"]
    openings = [mesh.region(landmarks, eye, 256) > 127 for eye in (mesh.RIGHT_EYE, mesh.LEFT_EYE)]
    assert iris.any() and (iris <= (openings[0] | openings[1])).all()


def test_regions_move_by_fractions_of_a_pixel():
    square = np.array([(10, 10), (20, 10), (20, 20), (10, 20)], float)
    sums = [mesh.coverage(square + np.array([shift, 0]), 32).astype(float) for shift in (0, 0.25, 0.5)]
    columns = np.arange(32) + 0.5
    middles = [(image * columns).sum() / image.sum() for image in sums]
    # OpenCV fills an edge's own column too: 1/16 pixel more at the right, which moves the middle by half of that.
    np.testing.assert_allclose(middles, [15, 15.25, 15.5], atol=0.04)
