"""The rasterizer behind a pinhole camera: perspective-correct, cut at a plane before the camera.

The pinhole is in the origin of the camera's space and looks along -z: x right, y up, depth -z. It sees a point at
x = centre_x + focal X / depth and y = centre_y - focal Y / depth, in pixels. 1 / depth, and barycentric weights over
depth, change linearly over the picture; they come from the whole triangle, so that where it is cut does not show.
"""

import numpy as np

from svp_jax.face.rasterizer import (
    Fragments,
    Hits,
    checked,
    cross,
    normalized,
    paint_normals,
    pixel_centres,
    vertex_normals,
)
from svp_jax.face.spans import nearest

# Small beside a face in metres or centimetres; large enough that what is cut there, at focal / NEAR pixels a unit,
# keeps its place in the picture to far less than a pixel.
NEAR = 0.01


def rasterize_perspective(
    points: np.ndarray,
    triangles: np.ndarray,
    focal: float,
    centre: np.ndarray,
    height: int,
    width: int,
    *,
    cull: bool = False,
    near: float = NEAR,
) -> Fragments:
    """Finds the nearest triangle at the centre of every pixel; barycentric weights are those of the corners in space.

    Args:
        points: [V,3] in the camera's space.
        triangles: int [T,3] indices of points; a corner that is not finite drops it.
        focal: focal length in pixels.
        centre: [2], x and y where the optical axis meets the picture, in pixels (centres at integer + 0.5).
        height, width: size of the picture; what lies outside is cut off.
        cull: leave out the triangles that wind clockwise on the screen: a closed mesh's far side.
        near: depth, in the unit of the points, of the plane before which nothing is drawn.

    Raises:
        ValueError: as `rasterizer.rasterize`, or a camera that is none.
    """
    points, corners = checked(points, triangles, height, width)
    return _hits(points, corners, focal, centre, height, width, cull, near).fragments(height, width)


def render_normals_perspective(
    points: np.ndarray,
    triangles: np.ndarray,
    focal: float,
    centre: np.ndarray,
    height: int,
    width: int,
    *,
    shown: np.ndarray | bool = True,
    cull: bool = False,
    near: float = NEAR,
) -> np.ndarray:
    """`rasterizer.render_normals` behind a pinhole camera: uint8 [H,W,3], normals in the camera's space as colours.

    Args:
        shown: bool [T], false for triangles that hide what is behind them and are black themselves.
        The others are those of `rasterize_perspective`.
    """
    normals = vertex_normals(points, triangles)
    points, corners = checked(points, triangles, height, width)
    hits = _hits(points, corners, focal, centre, height, width, cull, near)
    return paint_normals(hits, normals, corners, shown, height, width)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _hits(
    points: np.ndarray,
    corners: np.ndarray,
    focal: float,
    centre: np.ndarray,
    height: int,
    width: int,
    cull: bool,
    near: float,
) -> Hits:
    if not (np.isfinite([focal, near]).all() and focal > 0 and near > 0):
        raise ValueError(f"focal and near must be positive numbers, got {focal} and {near}")
    if np.shape(centre) != (2,) or not np.isfinite(centre).all():
        raise ValueError(f"centre must be two numbers, got {centre}")
    # As the picture has them: x right, y down, and the depth.
    points = points.T * [[1], [-1], [-1]]
    finite = np.isfinite(points).all(0).take(corners).all(0)
    kept = np.flatnonzero((points[2] >= near).take(corners).any(0) & finite)
    triangles = points.take(corners.take(kept, axis=1), axis=1)
    if cull:
        a, b, c = triangles.swapaxes(0, 1)
        facing = np.flatnonzero(_dot(cross(b - a, c - a), a) < 0)
        kept, triangles = kept.take(facing), triangles.take(facing, axis=2)
    visible, owner = _beyond(triangles, near)
    x, y = (centre[k] + focal * visible[k] / visible[2] for k in range(2))
    # From functions of directions to functions of pixels.
    inverse, first, second = (
        np.stack([along / focal, down / focal, ahead - (along * centre[0] + down * centre[1]) / focal])
        for along, down, ahead in _planes(triangles, near)
    )
    pixel, seen = nearest(x, y, owner, -inverse, height, width)

    x, y = pixel_centres(pixel, width)
    depth = 1 / _value(inverse, seen, x, y)
    one, two = _value(first, seen, x, y) * depth, _value(second, seen, x, y) * depth
    return Hits(pixel, kept.take(seen), normalized(1 - one - two, one, two), depth.astype(np.float32))


def _planes(triangles: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the directions (x, y, 1) see of triangles [3,3,K]: 1 / depth, and the weights of corners 1 and 2 over depth.

    Each is a linear function, [3,K], of the direction. They are found for the corners' own directions, so that
    corners at very different depths, or behind the camera, do no harm.
    """
    lengths = np.sqrt(_dot(triangles, triangles))
    a, b, c = (triangles / lengths).swapaxes(0, 1)
    u, v = b - a, c - a
    normal, first, second = cross(u, v), cross(v, a), cross(a, u)
    volume = _dot(normal, a)
    zeroth = (normal - first - second) / (volume * lengths[0])
    first /= volume * lengths[1]
    second /= volume * lengths[2]
    inverse = zeroth + first + second
    # What is seen from its edge gets pixels by rounding alone. Without them there could be holes between its
    # neighbours; they show its middle.
    edge_on = np.flatnonzero(~(volume**2 > 1e-24 * _dot(u, u) * _dot(v, v)))
    inverse[:, edge_on] = [[0], [0], [1]] / np.maximum(triangles[2][:, edge_on], near).mean(0)
    first[:, edge_on] = second[:, edge_on] = inverse[:, edge_on] / 3
    return inverse, first, second


def _beyond(triangles: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """What of triangles [3,3,K] lies beyond the near plane: (S triangles [3,3,S], whose they are int64 [S])."""
    beyond = triangles[2] >= near
    count = beyond.sum(0)
    whole, crossing = np.flatnonzero(count == 3), np.flatnonzero(count < 3)
    # The corner that is alone on its side of the plane comes first: it stays and the others go, or it goes.
    stays = count.take(crossing) == 1
    first = np.argmax(beyond.take(crossing, axis=1) == stays, axis=0)
    order = (first + np.arange(3)[:, None]) % 3
    a, b, c = np.take_along_axis(triangles.take(crossing, axis=2), order[None], axis=1).swapaxes(0, 1)
    ab, ac = (_cut(np.where(stays, a, other), np.where(stays, other, a), near) for other in (b, c))
    visible = np.concatenate(
        [
            triangles.take(whole, axis=2),
            np.stack([np.where(stays, a, b), ab, np.where(stays, ac, c)], axis=1),
            np.stack([ab, ac, c], axis=1)[:, :, ~stays],
        ],
        axis=2,
    )
    return visible, np.concatenate([whole, crossing, crossing[~stays]])


def _cut(beyond: np.ndarray, before: np.ndarray, near: float) -> np.ndarray:
    """Where edges from points [3,n] beyond the near plane to points before it meet it."""
    # From the edge alone and always in this direction, so that both triangles of an edge get the same bits.
    share = (beyond[2] - near) / (beyond[2] - before[2])
    point = beyond + (before - beyond) * share
    point[2] = near
    return point


def _dot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _value(function: np.ndarray, index: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear functions [3,K], one of them for each pixel."""
    along, down, constant = (part.take(index) for part in function)
    return along * x + down * y + constant
