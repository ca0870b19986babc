import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import unit_sphere

from svp_jax.face.rasterizer import color_normals, interpolate, rasterize, render_normals, vertex_normals


def sphere(rows, columns, centre, radius):
    """A closed sphere in pixel coordinates."""
    points, triangles = unit_sphere(rows, columns)
    return centre + radius * points * [1, -1, -1], triangles


def test_right_triangle_covers_the_pixels_counted_by_hand():
    # The hypotenuse x + y = 4 runs through pixel centres: those belong to what is right of it.
    vertices = np.array([[0.0, 0, 1], [4, 0, 1], [0, 4, 1]])
    seen = rasterize(vertices, np.array([[0, 1, 2]]), 5, 5).triangle >= 0
    expected = np.array([[x + y + 1 < 4 for x in range(5)] for y in range(5)])
    np.testing.assert_array_equal(seen, expected)


def test_barycentric_and_depth_by_hand():
    vertices = np.array([[0.0, 0, 0], [10, 0, 10], [0, 10, 20]])
    fragments = rasterize(vertices, np.array([[0, 1, 2]]), 10, 10)
    # Pixel (row 3, column 2) has its centre at x = 2.5, y = 3.5.
    np.testing.assert_allclose(fragments.barycentric[3, 2], [0.4, 0.25, 0.35], atol=1e-6)
    np.testing.assert_allclose(fragments.depth[3, 2], 0.25 * 10 + 0.35 * 20, atol=1e-5)
    assert np.isinf(fragments.depth[9, 9]) and not fragments.barycentric[9, 9].any()
    covered = fragments.triangle >= 0
    np.testing.assert_allclose(fragments.barycentric[covered].sum(1), 1, atol=1e-6)


def test_interpolated_attribute_is_the_plane_it_came_from():
    rng = np.random.default_rng(0)
    vertices = np.column_stack([rng.uniform(-5, 40, (30, 2)), rng.uniform(0, 1, 30)])
    triangles = np.arange(30).reshape(10, 3)
    fragments = rasterize(vertices, triangles, 32, 32)
    picture = interpolate(fragments, vertices[:, :2], triangles)
    rows, columns = np.nonzero(fragments.triangle >= 0)
    assert len(rows) > 100
    np.testing.assert_allclose(picture[rows, columns], np.stack([columns, rows], 1) + 0.5, atol=1e-5)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_nearer_triangle_wins_whatever_the_order(order):
    far = [[0, 0, 5.0], [8, 0, 5], [0, 8, 5]]
    near = [[0, 0, -2.0], [4, 0, -2], [0, 4, -2]]
    vertices = np.array(far + near)
    triangles = np.array([[0, 1, 2], [3, 4, 5]])[order]
    depth = rasterize(vertices, triangles, 8, 8).depth
    assert depth[0, 0] == -2 and depth[1, 1] == -2
    assert depth[0, 6] == 5 and depth[5, 1] == 5


def test_crossing_triangles_are_split_where_they_meet():
    vertices = np.array([[0, 0, 0.0], [8, 0, 8], [0, 8, 0], [0, 0, 4.0], [8, 0, 4], [0, 8, 4]])
    seen = rasterize(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 8, 8).triangle
    np.testing.assert_array_equal(seen[0, :7], [0, 0, 0, 0, 1, 1, 1])


def test_equal_depth_goes_to_the_first_triangle():
    vertices = np.array([[0, 0, 1.0], [8, 0, 1], [0, 8, 1]])
    triangles = np.array([[0, 1, 2], [1, 2, 0]])
    seen = rasterize(vertices, triangles, 8, 8).triangle
    assert set(seen[seen >= 0].tolist()) == {0}


@pytest.mark.parametrize("shift", [0.0, 0.137, 0.5])
def test_neighbours_leave_no_crack_and_no_overlap(shift):
    # A fan with its tip on a pixel centre and a rim on pixel centres: every ambiguous case at once.
    angle = np.linspace(0, 2 * np.pi, 25)[:-1]
    rim = np.rint(16.5 + 14 * np.stack([np.cos(angle), np.sin(angle)], 1)) + 0.5 + shift
    vertices = np.column_stack([np.concatenate([[[16.5 + shift] * 2], rim]), np.zeros(25)])
    ring = np.arange(24) + 1
    triangles = np.stack([np.zeros(24, int), ring, np.roll(ring, -1)], 1)
    count = np.zeros((40, 40), int)
    for triangle in triangles:
        count += rasterize(vertices, triangle[None], 40, 40).triangle >= 0
    assert count.max() == 1
    together = rasterize(vertices, triangles, 40, 40).triangle >= 0
    np.testing.assert_array_equal(together, count == 1)
    for row in together:
        columns = np.flatnonzero(row)
        assert len(columns) == 0 or len(columns) == columns[-1] - columns[0] + 1, "a hole in a convex shape"


def test_closed_sphere_is_a_disc_without_holes():
    vertices, triangles = sphere(40, 41, np.array([64.3, 63.8, 0]), 50.0)
    fragments = rasterize(vertices, triangles, 128, 128)
    y, x = np.mgrid[:128, :128] + 0.5
    distance = np.hypot(x - 64.3, y - 63.8)
    assert (fragments.triangle[distance < 49] >= 0).all()
    assert (fragments.triangle[distance > 50.01] == -1).all()
    # The facets lie behind the sphere, by 0.055 here and by 0.21 at most.
    assert fragments.depth[63, 64] == pytest.approx(-50, abs=0.06), "the near side is the one that is seen"


def test_normals_of_a_sphere_point_away_from_its_centre():
    vertices, triangles = sphere(40, 41, np.array([64.0, 64.0, 0]), 50.0)
    outward = vertices - [64, 64, 0]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert ((vertex_normals(vertices, triangles) * outward).sum(1) > 0.99).all()
    colors = render_normals(vertices, triangles, 128, 128).astype(int)
    assert colors[0, 0].tolist() == [0, 0, 0]
    # In the middle, 30 pixels to the right and 30 up; y points up, and a pixel's centre lies half a pixel off.
    for row, column, x, y in ((64, 64, 0.01, -0.01), (64, 94, 0.61, -0.01), (34, 64, 0.01, 0.59)):
        expected = (np.array([x, y, np.sqrt(1 - x * x - y * y)]) + 1) * 127.5
        # Half a level by rounding, and a quarter because the sphere has facets.
        np.testing.assert_allclose(colors[row, column], expected, atol=0.75)


def test_picture_of_normals_is_what_its_parts_give():
    vertices, triangles = sphere(12, 13, np.array([14.0, 18.0, 0]), 13.0)
    shown = np.arange(len(triangles)) % 3 > 0
    fragments = rasterize(vertices, triangles, 30, 28)
    normals = interpolate(fragments, vertex_normals(vertices, triangles) * [1, -1, -1], triangles)
    seen = (fragments.triangle >= 0) & shown[fragments.triangle]
    expected = np.where(seen[..., None], color_normals(normals), 0)
    np.testing.assert_array_equal(render_normals(vertices, triangles, 30, 28, shown), expected)
    empty = np.zeros((0, 3), int)
    assert not render_normals(vertices, empty, 4, 4).any() and not vertex_normals(vertices, empty).any()


def test_what_lies_outside_is_cut_and_bad_triangles_are_dropped():
    vertices = np.array([[-100, -100, 0.0], [300, -100, 0], [-100, 300, 0], [np.nan, 0, 0], [5, 5, 0]])
    fragments = rasterize(vertices, np.array([[0, 1, 2], [0, 1, 3], [4, 4, 4]]), 6, 7)
    assert fragments.triangle.shape == (6, 7) and (fragments.triangle == 0).all()
    empty = rasterize(vertices, np.zeros((0, 3), int), 4, 4)
    assert (empty.triangle == -1).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    dx=st.integers(-6, 6),
    dy=st.integers(-6, 6),
    value=st.floats(-100, 100, width=32),
)
@settings(max_examples=60, deadline=None)
def test_whole_pixel_shift_and_constant_attribute(seed, dx, dy, value):
    rng = np.random.default_rng(seed)
    # Quarter pixels make centres on edges and equal coordinates common; the shift is exact in floating point.
    vertices = np.column_stack([rng.integers(32, 96, (12, 2)) / 4.0, rng.integers(0, 5, 12)])
    triangles = rng.integers(0, 12, (8, 3))
    first = rasterize(vertices, triangles, 40, 40)
    second = rasterize(vertices + np.array([dx, dy, 0]), triangles, 40, 40)
    np.testing.assert_array_equal(np.roll(first.triangle, (dy, dx), (0, 1)), second.triangle)
    picture = interpolate(first, np.full((12, 2), value), triangles)
    covered = first.triangle >= 0
    np.testing.assert_allclose(picture[covered], value, rtol=1e-5, atol=1e-6)
    assert not picture[~covered].any()


@pytest.mark.parametrize(
    ("vertices", "triangles", "text"),
    [
        (np.zeros((3, 2)), np.array([[0, 1, 2]]), "vertices must be"),
        (np.zeros((3, 3)), np.array([[0, 1]]), "triangles must be"),
        (np.zeros((3, 3)), np.array([[0.0, 1, 2]]), "triangles must be"),
        (np.zeros((3, 3)), np.array([[0, 1, 3]]), "must index 3 vertices"),
    ],
)
def test_wrong_calls_are_named(vertices, triangles, text):
    with pytest.raises(ValueError, match=text):
        rasterize(vertices, triangles, 8, 8)
