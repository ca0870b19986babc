"""A z-buffered triangle rasterizer in NumPy: no loop over triangles, the same picture every time.

Each triangle is cut into pixel rows and each row into one span of pixels. A span's end is computed from the
edge alone, from its upper vertex downwards, so two triangles that share an edge agree on it to the last bit: a
pixel centre on or near that edge belongs to exactly one of them (no cracks, nothing drawn twice).
"""

from dataclasses import dataclass

import numpy as np

_NEAREST = np.int64(np.iinfo(np.int64).max)


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


def rasterize(vertices: np.ndarray, triangles: np.ndarray, height: int, width: int) -> Fragments:
    """Finds the nearest triangle at the centre of every pixel.

    Args:
        vertices: [V,3], x (pixels, right), y (pixels, down; centres at integer + 0.5), depth (small is near).
        triangles: int [T,3] vertex indices; both faces are drawn; a corner that is not finite drops it.
        height, width: size of the picture; what lies outside is cut off.

    Raises:
        ValueError: misshapen arrays, an index out of range or an empty picture.
    """
    vertices, triangles = _checked(vertices, triangles)
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be positive, got {height} and {width}")
    corners = vertices[triangles]
    planes = _planes(corners)
    kept = np.flatnonzero(planes.valid)
    buffer = np.full(height * width, _NEAREST)
    triangle, pixel, depth = _spans(corners[kept], planes, kept, height, width)
    # One integer per candidate, ordered by depth and then by triangle, so that ties are settled by the index.
    np.minimum.at(buffer, pixel, (_sortable(depth) << 32) | triangle)

    covered = np.flatnonzero(buffer != _NEAREST)
    seen = (buffer[covered] & 0xFFFFFFFF).astype(np.int32)
    weights = planes.barycentric(seen, covered % width + 0.5, covered // width + 0.5)
    index = np.full(height * width, -1, np.int32)
    index[covered] = seen
    barycentric = np.zeros((height * width, 3), np.float32)
    barycentric[covered] = weights
    surface = np.full(height * width, np.inf, np.float32)
    depths = vertices[triangles[seen], 2]
    surface[covered] = weights[:, 0] * depths[:, 0] + weights[:, 1] * depths[:, 1] + weights[:, 2] * depths[:, 2]
    return Fragments(
        index.reshape(height, width), barycentric.reshape(height, width, 3), surface.reshape(height, width)
    )


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
    vertices, triangles = _checked(vertices, triangles)
    a, b, c = vertices[triangles[:, 0]], vertices[triangles[:, 1]], vertices[triangles[:, 2]]
    u, v = b - a, c - a
    face = np.stack(
        [
            u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1],
            u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2],
            u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0],
        ],
        axis=1,
    )
    index = triangles.T.ravel()
    total = np.stack(
        [np.bincount(index, weights=np.tile(face[:, k], 3), minlength=len(vertices)) for k in range(3)],
        axis=1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 1e-12)


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
    fragments = rasterize(vertices, triangles, height, width)
    normals = interpolate(fragments, vertex_normals(vertices, triangles) * [1, -1, -1], triangles)
    shown = np.broadcast_to(shown, len(triangles))[fragments.triangle]
    return color_normals(normals, (fragments.triangle >= 0) & shown)


def color_normals(normals: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Normals [..,3] (x right, y up, z to the viewer; any length) as uint8 colours, else black."""
    length = np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    colors = np.rint((normals / length + 1) * 127.5).astype(np.uint8)
    return colors * covered[..., None].astype(np.uint8)


@dataclass(frozen=True)
class _Planes:
    """Per triangle, the screen-space gradients of its barycentric weights 1 and 2, from corner 0."""

    valid: np.ndarray
    origin: np.ndarray  # [T,2]
    first: np.ndarray  # [T,2] d weight 1 / d (x, y)
    second: np.ndarray  # [T,2]

    def barycentric(self, triangle: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = x - self.origin[triangle, 0], y - self.origin[triangle, 1]
        one = dx * self.first[triangle, 0] + dy * self.first[triangle, 1]
        two = dx * self.second[triangle, 0] + dy * self.second[triangle, 1]
        weights = np.empty((len(triangle), 3), np.float32)
        # The centre may lie outside a sliver by a rounding error that the sliver's gradients magnify.
        for k, weight in enumerate((1 - one - two, one, two)):
            np.maximum(weight, 0, out=weights[:, k], casting="same_kind")
        total = weights[:, 0] + weights[:, 1] + weights[:, 2]
        weights /= total[:, None]
        return weights


def _planes(corners: np.ndarray) -> _Planes:
    origin = corners[:, 0, :2]
    p, q = corners[:, 1, :2] - origin, corners[:, 2, :2] - origin
    with np.errstate(invalid="ignore"):
        area = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
        valid = (np.abs(area) > 1e-12) & np.isfinite(corners).all((1, 2))
        inverse = np.divide(1.0, area, out=np.zeros_like(area), where=valid)[:, None]
        first = np.stack([q[:, 1], -q[:, 0]], axis=1) * inverse
        second = np.stack([-p[:, 1], p[:, 0]], axis=1) * inverse
    return _Planes(valid, origin, first, second)


def _spans(corners: np.ndarray, planes: _Planes, kept: np.ndarray, height: int, width: int):
    """All candidates: (triangle int64 [n], flat pixel int64 [n], depth float32 [n])."""
    order = np.argsort(corners[:, :, 1], axis=1, kind="stable")
    x, y = (np.take_along_axis(corners[:, :, k], order, axis=1) for k in range(2))
    top = np.clip(np.ceil(y[:, 0] - 0.5), 0, height).astype(np.int64)
    bottom = np.clip(np.ceil(y[:, 2] - 0.5), 0, height).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.stack([x[:, 2] - x[:, 0], x[:, 1] - x[:, 0], x[:, 2] - x[:, 1]], axis=1)
        slopes /= np.stack([y[:, 2] - y[:, 0], y[:, 1] - y[:, 0], y[:, 2] - y[:, 1]], axis=1)
    row_of, line = _ranges(top, bottom)
    centre = line + 0.5
    upper = centre < y[row_of, 1]
    # An edge that is not horizontal starts from its upper vertex in every triangle that has it.
    with np.errstate(invalid="ignore"):
        long = x[row_of, 0] + (centre - y[row_of, 0]) * slopes[row_of, 0]
        short = np.where(
            upper,
            x[row_of, 0] + (centre - y[row_of, 0]) * slopes[row_of, 1],
            x[row_of, 1] + (centre - y[row_of, 1]) * slopes[row_of, 2],
        )
    left = np.clip(np.ceil(np.minimum(long, short) - 0.5), 0, width).astype(np.int64)
    right = np.clip(np.ceil(np.maximum(long, short) - 0.5), 0, width).astype(np.int64)

    depths = corners[:, :, 2]
    gradient = planes.first[kept] * (depths[:, 1:2] - depths[:, :1])
    gradient += planes.second[kept] * (depths[:, 2:] - depths[:, :1])
    start = depths[:, 0] - (gradient * planes.origin[kept]).sum(1)
    row_depth = start[row_of] + gradient[row_of, 1] * centre + gradient[row_of, 0] * 0.5
    span, column = _ranges(left, right)
    triangle = row_of[span]
    depth = row_depth[span] + gradient[triangle, 0] * column
    return kept[triangle], line[span] * width + column, depth.astype(np.float32)


def _ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated ranges: (index of the range, value) for every value of every [start, stop)."""
    count = np.maximum(stop - start, 0)
    owner = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count
    return owner, np.arange(len(owner)) + (start - first)[owner]


def _sortable(depth: np.ndarray) -> np.ndarray:
    """float32 as int64 numbers in the same order."""
    bits = depth.view(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)


def _checked(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices must be [V,3], got {vertices.shape}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not np.issubdtype(triangles.dtype, np.integer):
        raise ValueError(f"triangles must be int [T,3], got {triangles.dtype} {triangles.shape}")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise ValueError(f"triangles must index {len(vertices)} vertices, got {triangles.min()} to {triangles.max()}")
    return vertices, triangles
