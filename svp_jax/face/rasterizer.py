"""A z-buffered triangle rasterizer in NumPy: the same picture every time, no cracks, nothing drawn twice (`spans`).

Depth and attributes change linearly over the picture (a parallel projection); `perspective` has the pinhole camera.
"""

from dataclasses import dataclass

import numpy as np

from svp_jax.face.spans import nearest


@dataclass(frozen=True)
class Fragments:
    """What is seen at each pixel.

    Attributes:
        triangle: int32 [H,W], the index of the nearest triangle, -1 where there is none.
        barycentric: float32 [H,W,3], weights of its corners (non-negative, sum 1), 0 where there is none.
        depth: float32 [H,W], z of the surface, inf where there is none.
    """

    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class Hits:
    """`Fragments` of the n pixels where there is a triangle.

    Attributes:
        pixel: int64 [n], flat indices, ascending.
        triangle: int64 [n].
        barycentric: float32 [3,n].
        depth: float32 [n].
    """

    pixel: np.ndarray
    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    def fragments(self, height: int, width: int) -> Fragments:
        """The same over the whole picture."""
        triangle = np.full(height * width, -1, np.int32)
        triangle[self.pixel] = self.triangle
        barycentric = np.zeros((height * width, 3), np.float32)
        for k, weight in enumerate(self.barycentric):
            barycentric[self.pixel, k] = weight
        depth = np.full(height * width, np.inf, np.float32)
        depth[self.pixel] = self.depth
        return Fragments(
            triangle.reshape(height, width), barycentric.reshape(height, width, 3), depth.reshape(height, width)
        )


def rasterize(vertices: np.ndarray, triangles: np.ndarray, height: int, width: int) -> Fragments:
    """Finds the nearest triangle at the centre of every pixel.

    Args:
        vertices: [V,3], x (pixels, right), y (pixels, down; centres at integer + 0.5), depth (small is near).
        triangles: int [T,3] vertex indices; both faces are drawn; a corner that is not finite drops it.
        height, width: size of the picture; what lies outside is cut off.

    Raises:
        ValueError: misshapen arrays, an index out of range or an empty picture.
    """
    vertices, corners = checked(vertices, triangles, height, width)
    return _hits(vertices, corners, height, width).fragments(height, width)


def interpolate(fragments: Fragments, attributes: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Vertex attributes [V,C] over the picture: float32 [H,W,C], zeros where no triangle is seen."""
    height, width = fragments.triangle.shape
    pixels, values = gather(fragments, attributes, triangles)
    picture = np.zeros((height * width, values.shape[1]), np.float32)
    picture[pixels] = values
    return picture.reshape(height, width, -1)


def gather(
    fragments: Fragments, attributes: np.ndarray, triangles: np.ndarray, where: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The covered pixels alone: (flat pixel indices int64 [n], interpolated attributes float32 [n,C]).

    Args:
        where: bool [H,W], limits the pixels further.
    """
    seen = fragments.triangle >= 0 if where is None else (fragments.triangle >= 0) & where
    pixels = np.flatnonzero(seen)
    corner = triangles[fragments.triangle.ravel()[pixels]]
    weights = fragments.barycentric.reshape(-1, 3)[pixels]
    attributes = np.asarray(attributes, np.float32)
    values = attributes[corner[:, 0]]
    values *= weights[:, :1]
    for k in (1, 2):
        part = attributes[corner[:, k]]
        part *= weights[:, k : k + 1]
        values += part
    return pixels, values


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V,3]: mean of the adjacent faces' (b-a) x (c-a), weighted by area; 0 where undefined."""
    vertices, corners = checked(vertices, triangles)
    a, b, c = (vertices.T.take(corner, axis=1) for corner in corners)
    index = corners.ravel()
    total = np.empty((3, len(vertices)))
    for k, face in enumerate(cross(b - a, c - a)):
        total[k] = np.bincount(index, weights=np.tile(face, 3), minlength=len(vertices))
    length = np.sqrt(total[0] * total[0] + total[1] * total[1] + total[2] * total[2])
    unit = np.divide(total, length, out=np.zeros_like(total), where=length > 1e-12)
    return np.ascontiguousarray(unit.T)


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Cross products [3,n] of vectors [3,n]."""
    return np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])


def faces_viewer(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Which triangles [T,3] over `points` [V, 2 or more] (x right, y down) wind counter-clockwise on the screen."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def render_normals(
    vertices: np.ndarray, triangles: np.ndarray, height: int, width: int, shown: np.ndarray | bool = True
) -> np.ndarray:
    """Smooth normals as colours: uint8 [H,W,3], (n + 1) / 2 with x right, y up, z to the viewer; else black.

    Triangles that face the viewer must wind counter-clockwise on the screen.

    Args:
        shown: bool [T], false for triangles that hide what is behind them and are black themselves.
    """
    normals = vertex_normals(vertices, triangles) * [1, -1, -1]
    vertices, corners = checked(vertices, triangles, height, width)
    return paint_normals(_hits(vertices, corners, height, width), normals, corners, shown, height, width)


def paint_normals(
    hits: Hits, normals: np.ndarray, corners: np.ndarray, shown: np.ndarray | bool, height: int, width: int
) -> np.ndarray:
    """`render_normals` from what is seen, vertex normals [V,3] (x right, y up, z to the viewer) and corners [3,T]."""
    chosen = np.flatnonzero(np.broadcast_to(shown, corners.shape[1]).take(hits.triangle))
    pixel, triangle = hits.pixel.take(chosen), hits.triangle.take(chosen)
    weights = hits.barycentric.take(chosen, axis=1)
    corners = corners.take(triangle, axis=1)
    smooth = np.empty((3, len(pixel)), np.float32)
    for values, out in zip(np.ascontiguousarray(normals.T, np.float32), smooth, strict=True):
        np.multiply(values.take(corners[0]), weights[0], out=out)
        for corner, weight in zip(corners[1:], weights[1:], strict=True):
            part = values.take(corner)
            part *= weight
            out += part
    picture = np.zeros((height * width, 3), np.uint8)
    for k, color in enumerate(color_normals(smooth.T).T):
        picture[pixel, k] = color
    return picture.reshape(height, width, 3)


def color_normals(normals: np.ndarray) -> np.ndarray:
    """Normals float [..,3] (x right, y up, z to the viewer; any length) as uint8 colours."""
    x, y, z = np.moveaxis(normals, -1, 0)
    length = np.maximum(np.sqrt(x * x + y * y + z * z), 1e-6)[..., None]
    return np.rint((normals / length + 1) * 127.5).astype(np.uint8)


def checked(
    vertices: np.ndarray, triangles: np.ndarray, height: int = 1, width: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(vertices float64 [V,3], corners int64 [3,T]); ValueError as in `rasterize`."""
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices must be [V,3], got {vertices.shape}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles must be int [T,3], got {triangles.dtype} {triangles.shape}")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise ValueError(f"triangles must index {len(vertices)} vertices, got {triangles.min()} to {triangles.max()}")
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be positive, got {height} and {width}")
    return vertices, np.ascontiguousarray(triangles.T, np.int64)


def pixel_centres(pixel: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of flat pixel indices."""
    row = pixel // width
    return pixel - row * width + 0.5, row + 0.5


def normalized(*weights: np.ndarray) -> np.ndarray:
    """Three barycentric weights [n] as float32 [3,n] without negative ones, sum 1."""
    # The centre may lie outside a sliver by a rounding error that the sliver's gradients magnify.
    result = np.stack([np.maximum(weight, 0) for weight in weights]).astype(np.float32)
    result /= result[0] + result[1] + result[2]
    return result


def _hits(vertices: np.ndarray, corners: np.ndarray, height: int, width: int) -> Hits:
    x, y, z = (coordinate.take(corners) for coordinate in np.ascontiguousarray(vertices.T))
    with np.errstate(invalid="ignore"):
        area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    finite = np.isfinite(vertices).all(1).take(corners).all(0)
    kept = np.flatnonzero((np.abs(area) > 1e-12) & finite)
    x, y, z = (coordinate.take(kept, axis=1) for coordinate in (x, y, z))
    inverse = 1.0 / area.take(kept)
    # The gradients of weights 1 and 2.
    first = (y[2] - y[0]) * inverse, (x[0] - x[2]) * inverse
    second = (y[0] - y[1]) * inverse, (x[1] - x[0]) * inverse
    slope_x, slope_y = (one * (z[1] - z[0]) + two * (z[2] - z[0]) for one, two in zip(first, second, strict=True))
    planes = np.stack([slope_x, slope_y, z[0] - (slope_x * x[0] + slope_y * y[0])])
    pixel, seen = nearest(x, y, np.arange(len(kept)), planes, height, width)

    centre_x, centre_y = pixel_centres(pixel, width)
    dx, dy = centre_x - x[0].take(seen), centre_y - y[0].take(seen)
    one, two = (dx * along.take(seen) + dy * down.take(seen) for along, down in (first, second))
    weights = normalized(1 - one - two, one, two)
    depth = weights[0] * z[0].take(seen) + weights[1] * z[1].take(seen) + weights[2] * z[2].take(seen)
    return Hits(pixel, kept.take(seen), weights, depth.astype(np.float32))
