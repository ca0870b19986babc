import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import unit_sphere

from svp_jax.face.morphable.camera import Camera
from svp_jax.face.perspective import NEAR, rasterize_perspective, render_normals_perspective
from svp_jax.face.rasterizer import faces_viewer, gather, rasterize

SURE = 1e-6  # Pixel centres nearer to an edge than this, in pixels, may be on either side of it.
SEEDS = st.integers(0, 2**32 - 1)


def rays(focal, centre, height, width):
    """The points [3,H,W] at depth 1 that the pixels' centres see."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([(x - centre[0]) / focal, (centre[1] - y) / focal, np.full_like(x, -1)])


def solve(corners, focal, centre, height, width, near):
    """One triangle at every pixel, by solving for it: None if it is seen from its edge, or else

    distance [H,W] to the nearest edge of its part beyond the near plane, in pixels, positive inside (up to where
    it is not clear which edge is the nearest); barycentric [3,H,W]; depth [H,W].
    """
    lengths = np.linalg.norm(corners, axis=1)
    if not np.isfinite(corners).all() or not abs(np.linalg.det(corners)) > 1e-9 * lengths.prod():
        return None
    # Weights over depth change linearly: their distance to 0 is their value over their gradient.
    inverse = np.linalg.inv(corners.T)
    shares = np.einsum("ij,jhw->ihw", inverse, rays(focal, centre, height, width))
    total, slope = shares.sum(0), inverse.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        edges = shares / np.hypot(inverse[:, 0], inverse[:, 1])[:, None, None] * focal
        # A triangle in the near plane itself is at no distance from it.
        front = (1 / near - total) / max(np.hypot(slope[0], slope[1]), 1e-6 / near) * focal
        return np.minimum(edges.min(0), front), shares / total, 1 / total


def agree(points, triangles, focal, centre, height, width, near):
    """Compares each triangle alone, then what is the nearest of all, with `solve`; returns how many cover a pixel."""

    def draw(triangles):
        return rasterize_perspective(points, triangles, focal, centre, height, width, near=near)

    together = draw(triangles)
    covered, covering = together.triangle >= 0, 0
    nearest = np.full((height, width), np.inf)
    for index, triangle in enumerate(triangles):
        solved = solve(points[triangle], focal, centre, height, width, near)
        if solved is None:
            continue
        distance, barycentric, depth = solved
        alone = draw(triangle[None])
        inside = distance > SURE
        assert (alone.triangle[inside] == 0).all(), "a hole"
        assert (alone.triangle[distance < -SURE] == -1).all(), "drawn outside"
        np.testing.assert_allclose(alone.barycentric[inside].T, barycentric[:, inside], atol=2e-6)
        np.testing.assert_allclose(alone.depth[inside], depth[inside], rtol=1e-6)
        here = together.triangle == index
        np.testing.assert_array_equal(together.barycentric[here], alone.barycentric[here])
        np.testing.assert_array_equal(together.depth[here], alone.depth[here])
        nearest[inside] = np.minimum(nearest, depth)[inside]
        covering += inside.any()
    assert covered[np.isfinite(nearest)].all(), "a hole"
    # The depth buffer holds float32: nearer by less than that is not nearer.
    assert (together.depth[covered] <= nearest[covered] * (1 + 1e-6)).all(), "hidden by what is behind it"
    return covering


KINDS = ("beyond", "crossing", "close", "grid", "far and wide")


def scene(seed, kind):
    """(points [24,3], triangles [30,3], focal, centre, near): triangles that cross each other and share corners."""
    rng = np.random.default_rng(seed)
    focal, centre, near = rng.uniform(10, 60), rng.uniform(0, 30, 2), NEAR
    points = rng.uniform([-4, -4, -9], [4, 4, -1], (24, 3))
    if kind == "crossing":
        points[:, 2] += 3
    elif kind == "close":
        points *= rng.choice([0.001, 0.01, 0.1, 1], (24, 1))
    elif kind == "grid":
        # Corners and edges on pixel centres, equal depths, corners in the near plane.
        focal, centre, near = 16.0, np.array([12.5, 12.5]), 1.0
        points = rng.integers([-8, -8, -4], [9, 9, 3], (24, 3)) / [4, 4, 1]
    elif kind == "far and wide":
        points[:, 2] += 3
        points *= 10.0 ** rng.integers(-1, 5, (24, 1))
        near = 0.3
    points[20:22] = points[:2] + (points[2:4] - points[:2]) / 4  # On the edges of others.
    points[22:, rng.integers(0, 3)] = rng.choice([np.nan, np.inf, -np.inf], 2)
    # Some triangles have a corner twice.
    return points, rng.integers(0, 24, (30, 3)), focal, centre, near


@given(seed=SEEDS, kind=st.sampled_from(KINDS))
@settings(max_examples=100, deadline=None)
def test_every_pixel_agrees_with_solving_for_it(seed, kind):
    points, triangles, focal, centre, near = scene(seed, kind)
    agree(points, triangles, focal, centre, 24, 27, near)


@pytest.mark.parametrize("kind", KINDS)
def test_those_scenes_have_something_to_see(kind):
    seen = 0
    for seed in range(10):
        points, triangles, focal, centre, near = scene(seed, kind)
        seen += agree(points, triangles, focal, centre, 24, 27, near)
    assert seen > 40


def drawn_alone(points, triangles, focal, centre, size, near):
    """How many triangles cover each pixel, each drawn by itself; and that together they cover the same."""
    count = np.zeros((size, size), int)
    for triangle in triangles:
        count += rasterize_perspective(points, triangle[None], focal, centre, size, size, near=near).triangle >= 0
    together = rasterize_perspective(points, triangles, focal, centre, size, size, near=near).triangle >= 0
    np.testing.assert_array_equal(together, count > 0)
    return count


def check_once(count, inside, points, focal, centre, near):
    """One triangle of the mesh covers each pixel that is `inside`, and none is left out.

    Where a corner falls on a pixel's centre to the last bits, rounding may turn triangles over; then they are more.
    """
    beyond = points[-points[:, 2] >= near]
    corners = centre - focal * beyond[:, :2] * [1, -1] / beyond[:, 2:]
    pixels = np.argwhere(inside)[:, ::-1] + 0.5
    distance = np.linalg.norm(pixels[:, None] - corners, axis=2).min(1, initial=np.inf)
    assert count[inside].all(), "a hole"
    assert (count[inside][distance > SURE] == 1).all()


def sheet(rng, cells, steps):
    """A square of cells x cells, each cut into two triangles at random: (places [V,2] in 0..cells, triangles)."""
    i, j = np.meshgrid(np.arange(cells + 1), np.arange(cells + 1), indexing="ij")
    places = np.stack([i, j], -1).astype(float)
    # Rounded, so that edges fall on pixel centres; below 1/4, so that no triangle is thin or turned over.
    places[1:-1, 1:-1] += np.rint(rng.uniform(-0.2, 0.2, (cells - 1, cells - 1, 2)) * steps) / steps
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    p, q, r, s = (x.ravel() for x in (index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]))
    other = rng.random(len(p)) < 0.5
    first = np.where(other, (p, q, s), (p, q, r)).T
    second = np.where(other, (p, s, r), (q, s, r)).T
    return places.reshape(-1, 2), np.concatenate([first, second])


@given(seed=SEEDS, aligned=st.booleans())
@settings(max_examples=60, deadline=None)
def test_neighbours_share_edges_where_the_near_plane_cuts_them(seed, aligned):
    """A flat sheet, most of it under or behind the camera, covers every pixel that sees it once."""
    rng = np.random.default_rng(seed)
    places, triangles = sheet(rng, 5, 8)
    if aligned:
        focal, centre, near = 8.0, np.array([12.5, 12.5]), rng.uniform(0.2, 1)
        corner = np.array([-4.0, rng.choice([-1, -0.5, 1]), 4.0])
        along = np.array([[2.0, 0, 0], [rng.integers(-1, 2), 0, -2.0]])
        # The same picture, but for what rounding makes of the edges that meet pixel centres.
        scale = rng.uniform(0.5, 2)
        corner, along = corner * scale, along * scale
    else:
        focal, centre, near = rng.uniform(5, 50), rng.uniform(0, 24, 2), 10 ** rng.uniform(-3, 0)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        along = turn[:2] * rng.uniform(0.2, 5, (2, 1))
        corner = rng.uniform(-1, 1) * turn[2] - rng.uniform(1, 4, 2) @ along
    points = corner + places @ along
    count = drawn_alone(points, triangles, focal, centre, 24, near)
    solved = solve(points[[0, 30, 5]], focal, centre, 24, 24, near)
    if solved is not None:
        _, (_, *place), depth = solved
        # How far from the sheet's rim and the near plane, where the sheet's side is 1 and the plane's depth is 1.
        distance = np.min([place, 1 - np.array(place), np.broadcast_to(depth / near - 1, (2, 24, 24))], (0, 1))
        assert not count[distance < -SURE].any()
        check_once(count, distance > SURE, points, focal, centre, near)


@given(seed=SEEDS, steps=st.sampled_from([8, 1 << 20]))
@settings(max_examples=40, deadline=None)
def test_neighbours_share_edges_at_any_depth(seed, steps):
    """Corners on a grid of the picture, their depths from 1/50 to 100: every pixel of the grid once."""
    rng = np.random.default_rng(seed)
    places, triangles = sheet(rng, 5, steps)
    focal, centre = (8.0, np.array([2.5, 2.5])) if steps == 8 else (rng.uniform(5, 50), rng.uniform(0, 24, 2))
    depth = np.exp(rng.uniform(np.log(0.02), np.log(100), len(places)))
    screen = 2.5 + 4 * places
    points = np.column_stack([(screen - centre) * [1, -1] / focal, np.full(len(places), -1)]) * depth[:, None]
    count = drawn_alone(points, triangles, focal, centre, 26, NEAR)
    distance = 10 - np.abs(np.mgrid[:26, :26] + 0.5 - 12.5).max(0)
    assert not count[distance < -SURE].any()
    check_once(count, distance > SURE, points, focal, centre, NEAR)


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_triangle_without_area_fills_what_rounding_leaves(seed):
    """Where meshes meet in an edge on which one has a point more, there is a triangle of three points in a line."""
    rng = np.random.default_rng(seed)
    # In the picture: a slanted edge through pixel centres, and a corner on each side of it.
    start, step = rng.integers(0, 10, 2) + 0.5, rng.integers(1, 9, 2)
    screen = np.array([start, start + step, start + step * [1, 0], start + step * [0, 1]])
    depth = rng.uniform(1, 9, 4)
    points = np.column_stack([(screen - 10) * [1, -1] / 30, np.full(4, -1)]) * depth[:, None]
    between = points[0] + rng.uniform(0.1, 0.9) * (points[1] - points[0])
    points = np.concatenate([points, [between]])
    triangles = np.array([[0, 1, 2], [0, 4, 3], [4, 1, 3], [0, 1, 4]])
    camera = (30.0, np.array([10.0, 10.0]))
    count = drawn_alone(points, triangles, *camera, 20, NEAR)
    y, x = np.mgrid[:20, :20] + 0.5
    inside = (x > start[0]) & (x < start[0] + step[0]) & (y > start[1]) & (y < start[1] + step[1])
    assert count[inside].all(), "a hole"
    thin = rasterize_perspective(points, triangles[3:], *camera, 20, 20)
    seen = thin.triangle >= 0
    low, high = -points[[0, 1], 2].max(), -points[[0, 1], 2].min()
    assert (thin.depth[seen] >= low * (1 - 1e-6)).all() and (thin.depth[seen] <= high * (1 + 1e-6)).all()
    np.testing.assert_allclose(thin.barycentric[seen].sum(1), 1, atol=1e-6)


def test_a_square_cut_by_the_near_plane_by_hand():
    # A floor 1 below the camera: row y sees it at depth 10 / (y - 10), and the near plane is 2 away.
    points = np.array([[-50.0, -1, 50], [50, -1, 50], [50, -1, -50], [-50, -1, -50]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize_perspective(points, triangles, 10.0, np.array([10.0, 10.0]), 20, 20, near=2.0)
    rows = np.arange(20) + 0.5
    with np.errstate(divide="ignore"):
        depth = 10 / (rows - 10)
    expected = (depth >= 2) & (depth <= 50)
    np.testing.assert_array_equal(fragments.triangle >= 0, np.broadcast_to(expected[:, None], (20, 20)))
    np.testing.assert_allclose(fragments.depth[expected], np.broadcast_to(depth[expected, None], (5, 20)), rtol=1e-6)
    assert np.isinf(fragments.depth[~expected]).all() and not fragments.barycentric[~expected].any()


def test_attributes_change_linearly_in_space():
    """The corners' own coordinates, interpolated, are what the pixel sees of the triangle's plane."""
    rng = np.random.default_rng(3)
    points, triangles = rng.uniform([-4, -4, -9], [4, 4, 4], (90, 3)), np.arange(90).reshape(30, 3)
    focal, centre = 30.0, np.array([17.0, 14.0])
    fragments = rasterize_perspective(points, triangles, focal, centre, 32, 32)
    pixels, places = gather(fragments, points, triangles)
    assert len(pixels) > 500
    depth = fragments.depth.ravel()[pixels]
    expected = rays(focal, centre, 32, 32).reshape(3, -1)[:, pixels] * depth
    # Weights are float32, and corners up to 10 away.
    np.testing.assert_allclose(places.T, expected, atol=3e-6)


def test_culling_leaves_out_what_is_turned_away_and_nothing_else():
    rng = np.random.default_rng(5)
    points = rng.uniform([-4, -4, -9], [4, 4, 4], (40, 3))
    triangles = rng.permuted(np.tile(np.arange(40), (400, 1)), axis=1)[:, :3]
    camera = (20.0, np.array([12.0, 12.0]), 24, 24)
    # Counter-clockwise on the screen: the normal points against the ray to a corner.
    a, b, c = (points[triangles[:, k]] for k in range(3))
    facing = np.flatnonzero((np.cross(b - a, c - a) * a).sum(1) < 0)
    culled = rasterize_perspective(points, triangles, *camera, cull=True).triangle
    alone = rasterize_perspective(points, triangles[facing], *camera).triangle
    np.testing.assert_array_equal(culled, np.where(alone >= 0, facing[alone], -1))
    beyond = (points[triangles, 2] < 0).all(1)
    screen = points[:, :2] * [1, -1] / -points[:, 2:]
    assert 50 < len(facing) < 350 and beyond.sum() > 50
    np.testing.assert_array_equal(np.isin(np.flatnonzero(beyond), facing), faces_viewer(screen, triangles[beyond]))


def test_normals_of_a_ball_before_the_camera():
    middle, radius = np.array([0.4, -0.3, -4.0]), 1.0
    points, triangles = unit_sphere(60, 80)
    points = middle + radius * points
    camera = (100.0, np.array([60.0, 66.0]), 128, 120)
    colors = render_normals_perspective(points, triangles, *camera)
    np.testing.assert_array_equal(colors, render_normals_perspective(points, triangles, *camera, cull=True))
    # Where the ray d t meets the sphere first.
    d = rays(*camera)
    along, length = np.einsum("jhw,j->hw", d, middle), (d * d).sum(0)
    root = along**2 - length * (middle @ middle - radius**2)
    assert not colors[root < 0].any(), "larger than the ball"
    seen = root > 0.3  # Farther out the facets bend away.
    place = d[:, seen] * ((along - np.sqrt(np.maximum(root, 0))) / length)[seen]
    normals = (place - middle[:, None]) / radius
    # Half a level by rounding, and one because the ball has facets.
    np.testing.assert_allclose(colors[seen].astype(int), (normals.T + 1) * 127.5, atol=1.5)
    assert seen.sum() > 1000 and colors[root > 0.05].any(1).all()


def test_what_is_not_shown_hides_and_is_black():
    near, far = [[-1.0, -1, -2], [1, -1, -2], [0, 1, -2]], [[-2.5, -2.5, -3], [2.5, -2.5, -3], [0, 2.5, -3]]
    points, triangles = np.array(near + far), np.array([[0, 1, 2], [3, 4, 5]])
    camera = (16.0, np.array([16.0, 16.0]), 32, 32)
    labels = np.array([7, 3])
    fragments = rasterize_perspective(points, triangles, *camera)
    colors = render_normals_perspective(points, triangles, *camera, shown=np.array([False, True]))
    part = np.where(fragments.triangle >= 0, labels[fragments.triangle], 0)
    assert part[16, 16] == 7 and part[28, 16] == 3 and part[0, 0] == 0
    np.testing.assert_array_equal(colors, np.where(part[..., None] == 3, [128, 128, 255], 0))


def test_it_sees_what_the_camera_projects():
    points, triangles = unit_sphere(20, 24)
    points += [0.1, 0.2, -5.0]
    camera = Camera(np.float32(90.0), np.float32([30.0, 34.0]))
    flat = np.asarray(camera.project(np.asarray(points, np.float32)))
    expected = rasterize(flat, triangles, 64, 64)
    fragments = rasterize_perspective(points, triangles, 90.0, np.asarray(camera.centre), 64, 64)
    # The camera is float32: a few centres change sides.
    assert (fragments.triangle != expected.triangle).mean() < 0.005 < (fragments.triangle >= 0).mean()
    same = (fragments.triangle == expected.triangle) & (fragments.triangle >= 0)
    np.testing.assert_allclose(fragments.depth[same], expected.depth[same], rtol=1e-2)


def test_nothing_to_see():
    points = np.array([[0, 0, 1.0], [1, 0, 2], [0, 1, 3], [np.nan, 0, -1], [0, 0, -1], [1e300, 1, -1], [0, 1e300, 0]])
    for triangles in ([[0, 1, 2]], [[0, 1, 3]], [[3, 4, 4]], [[4, 4, 4]], np.zeros((0, 3), int)):
        fragments = rasterize_perspective(points, np.array(triangles), 10.0, np.array([4.0, 4.0]), 8, 8)
        assert (fragments.triangle == -1).all()
        assert not render_normals_perspective(points, np.array(triangles), 10.0, np.array([4.0, 4.0]), 8, 8).any()
    rasterize_perspective(points, np.array([[4, 5, 6], [0, 5, 4]]), 10.0, np.array([4.0, 4.0]), 8, 8)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"points": np.zeros((3, 2))}, "vertices must be"),
        ({"triangles": np.array([[0, 1, 3]])}, "must index 3 vertices"),
        ({"focal": 0.0}, "focal and near must be positive"),
        ({"focal": np.nan}, "focal and near must be positive"),
        ({"near": -1.0}, "focal and near must be positive"),
        ({"centre": np.zeros(3)}, "centre must be two numbers"),
        ({"centre": np.array([0, np.inf])}, "centre must be two numbers"),
        ({"width": 0}, "height and width must be positive"),
    ],
)
def test_wrong_calls_are_named(change, text):
    call = {"points": np.zeros((3, 3)), "triangles": np.array([[0, 1, 2]]), "focal": 9.0, "centre": np.zeros(2)}
    with pytest.raises(ValueError, match=text):
        rasterize_perspective(**call | {"height": 4, "width": 4} | change)
