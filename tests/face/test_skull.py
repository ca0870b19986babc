import numpy as np
import pytest

from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.rasterizer import render_normals, vertex_normals
from svp_jax.face.skull import skull_triangles, skull_vertices


def turn(degrees: float, axis: int) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.eye(3)
    a, b = (i for i in range(3) if i != axis)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


@pytest.mark.parametrize(("degrees", "axis"), [(35, 0), (-40, 1), (25, 2)])
def test_it_turns_shifts_and_grows_with_the_face(real_face, degrees, axis):
    _, landmarks = real_face
    matrix = 1.7 * turn(degrees, axis)
    moved = skull_vertices(landmarks @ matrix.T + [5, -3, 2])
    np.testing.assert_allclose(moved, skull_vertices(landmarks) @ matrix.T + [5, -3, 2], atol=1e-3)


def test_it_stays_when_jaw_mouth_lids_and_brows_move(real_face):
    _, landmarks = real_face
    spoken = landmarks.copy()
    jaw = [point for point in mesh.FACE_OVAL if landmarks[point, 1] > landmarks[2, 1]]
    assert len(jaw) > 8
    lids = [*mesh.LEFT_EYE, *mesh.RIGHT_EYE]
    contours = (jaw, mesh.INNER_MOUTH, mesh.LOWER_LIP, mesh.UPPER_LIP, lids, mesh.LEFT_BROW, mesh.RIGHT_BROW)
    moved = sorted({point for contour in contours for point in contour} - {33, 263})  # the corners of the eyes stay
    spoken[moved] += [2, 6, 1]
    np.testing.assert_array_equal(skull_vertices(spoken), skull_vertices(landmarks))


def test_its_outside_faces_out(real_face):
    vertices = skull_vertices(real_face[1])
    normals = vertex_normals(vertices, skull_triangles())
    outward = vertices - vertices.mean(axis=0)
    assert (np.sum(normals * outward, axis=1) > 0).all()


def test_it_continues_the_mesh_upwards(real_face):
    image, landmarks = real_face
    size = 256
    points = landmarks * (size / len(image))
    covered = mesh.render_geometry(points, size).any(axis=-1)
    rows, columns = np.nonzero(covered)
    width = points[:, 0].max() - points[:, 0].min()
    above = points[:, 1].min() - rows.min()
    assert 0.1 * width < above < 0.5 * width
    # No wider than the face by much, and no gap between the two.
    assert columns.max() - columns.min() < 1.15 * width
    middle = covered[rows.min() : int(points[0, 1]), int(points[10, 0])]
    assert middle.all()
    # Behind the face: brow and nose are the mesh's.
    before = render_normals(mesh.mesh_vertices(points), mesh.triangles(), size, size)
    brow = slice(int(points[105, 1]), int(points[2, 1]))
    same = (mesh.render_geometry(points, size)[brow] == before[brow]).all(axis=-1)[before[brow].any(axis=-1)]
    assert same.mean() > 0.99
