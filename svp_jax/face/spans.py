"""Which triangle is nearest at the centre of every pixel: spans of pixels and a depth buffer, no loop over triangles.

Each triangle is cut into pixel rows and each row into one span of pixels. A span's end is computed from the
edge alone, from its upper vertex downwards, so two triangles that share an edge agree on it to the last bit: a
pixel centre on or near that edge belongs to exactly one of them (no cracks, nothing drawn twice).
"""

import numpy as np

_EMPTY = np.int64(np.iinfo(np.int64).max)


def nearest(
    x: np.ndarray, y: np.ndarray, owner: np.ndarray, planes: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that triangles cover, and whose triangle is the nearest at each: (flat pixels, owners), int64 [n].

    Args:
        x, y: [3,S], corners of S triangles in pixels (right and down; centres at integer + 0.5).
        owner: int64 [S], which plane each triangle lies in; at equal depth the lowest is the nearest.
        planes: [3,P], depth over the picture: its change with x, its change with y, its value in x = y = 0. Small
            is near, and float32 decides.
        height, width: size of the picture; what lies outside is cut off.
    """
    triangle, line, left, right = _rows(x, y, height, width)
    owner = owner.take(triangle)
    slope_x, slope_y, origin = (plane.take(owner) for plane in planes)
    start = origin + slope_y * (line + 0.5) + slope_x * 0.5
    row, column = _ranges(left, right)
    depth = start.take(row) + slope_x.take(row) * column
    # One integer per candidate, ordered by depth and then by owner, so that ties are settled by the index.
    candidate = _sortable(depth.astype(np.float32))
    candidate <<= 32
    candidate |= owner.take(row)
    buffer = np.full(height * width, _EMPTY)
    np.minimum.at(buffer, (line * width).take(row) + column, candidate)
    covered = np.flatnonzero(buffer != _EMPTY)
    return covered, buffer.take(covered) & 0xFFFFFFFF


def _rows(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, ...]:
    """Every triangle in every row of pixels that it may cover: (triangle, row, first column, column after the last)."""
    count = x.shape[1]
    x, y = _downwards(x, y)
    top, middle, bottom = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    # Above and below its middle vertex, a triangle lies between its long edge and one short edge.
    half, line = _ranges(np.concatenate([top, middle]), np.concatenate([middle, bottom]))
    triangle = np.where(half < count, half, half - count)
    centre = line + 0.5
    # An edge that is not horizontal starts from its upper vertex in every triangle that has it.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        long = (x[2] - x[0]) / (y[2] - y[0])
        short = (x[1:] - x[:-1]) / (y[1:] - y[:-1])
        ends = (
            x[0].take(triangle) + (centre - y[0].take(triangle)) * long.take(triangle),
            x[:2].take(half) + (centre - y[:2].take(half)) * short.take(half),
        )
        left = np.clip(np.ceil(np.minimum(*ends) - 0.5), 0, width).astype(np.int64)
        right = np.clip(np.ceil(np.maximum(*ends) - 0.5), 0, width).astype(np.int64)
    return triangle, line, left, right


def _downwards(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners [3,S] from the uppermost to the lowest."""
    x, y = list(x), list(y)
    for i, j in ((0, 1), (1, 2), (0, 1)):
        swap = y[i] > y[j]
        x[i], x[j] = np.where(swap, x[j], x[i]), np.where(swap, x[i], x[j])
        y[i], y[j] = np.where(swap, y[j], y[i]), np.where(swap, y[i], y[j])
    return np.stack(x), np.stack(y)


def _ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated ranges: (index of the range, value) for every value of every [start, stop)."""
    count = np.maximum(stop - start, 0)
    last = np.cumsum(count)
    total = last[-1] if len(last) else 0
    # How many ranges have ended at each place: several times faster than np.repeat.
    owner = np.cumsum(np.bincount(last[:-1], minlength=total + 1)[:total])
    return owner, np.arange(total) + (start - last + count).take(owner)


def _sortable(depth: np.ndarray) -> np.ndarray:
    """float32 as int64 numbers in the same order."""
    bits = depth.view(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
