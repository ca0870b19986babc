"""The surfaces of the synthetic head: parametric grids, shaped by identity, expression and pose.

Head units: x to the picture's right, y up, z to the viewer; the head is about 2.1 high (chin -1, crown 1.1)
and the eyes lie near y = 0.06. Every surface vertex also keeps its place on the average head in rest
("canonical"), on which all colours are painted, so that paint follows every deformation.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from svp_jax.capture.synthetic.looks import SHAPE_NAMES, Look
from svp_jax.capture.synthetic.motion import Motion

EYE = (0.295, 0.06)  # canonical centre of the left eye opening; the right one has -x
EYE_RADIUS = 0.165
EYE_DEPTH = 0.625  # z of the eyeball's centre
MOUTH_Y = -0.605
MOUTH_HALF_WIDTH = 0.25
EAR_Y = -0.04  # of the middle of the ears
PIVOT = np.array([0.0, -0.75, -0.25])
JAW_HINGE = np.array([0.0, -0.12, -0.05])

# Head sections from bottom to top: y of the front midline, half width, z in front, z behind, rise behind.
_SECTIONS = np.array([
    (-0.86, 0.02, 0.30, 0.20, 0.00),
    (-0.985, 0.17, 0.61, 0.02, 0.26),
    (-1.00, 0.27, 0.735, -0.20, 0.42),
    (-0.91, 0.40, 0.79, -0.45, 0.40),
    (-0.76, 0.52, 0.79, -0.60, 0.36),
    (MOUTH_Y, 0.585, 0.80, -0.70, 0.30),
    (-0.38, 0.64, 0.81, -0.80, 0.20),
    (-0.12, 0.695, 0.815, -0.90, 0.10),
    (0.14, 0.72, 0.83, -0.95, 0.00),
    (0.40, 0.725, 0.855, -0.97, 0.00),
    (0.66, 0.665, 0.785, -0.91, 0.00),
    (0.87, 0.53, 0.615, -0.75, 0.00),
    (1.02, 0.345, 0.385, -0.50, 0.00),
    (1.095, 0.15, 0.13, -0.24, 0.00),
    (1.11, 0.01, -0.05, -0.07, 0.00),
])  # fmt: skip
_BODY_SECTIONS = np.array([
    (-0.45, 0.36, 0.16, -0.60, 0.0),
    (-0.80, 0.36, 0.14, -0.56, 0.0),
    (-1.12, 0.37, 0.13, -0.55, 0.0),
    (-1.27, 0.43, 0.14, -0.57, 0.06),
    (-1.38, 0.62, 0.18, -0.60, 0.10),
    (-1.47, 0.93, 0.25, -0.60, 0.08),
    (-1.58, 1.21, 0.33, -0.60, 0.04),
    (-1.78, 1.36, 0.40, -0.60, 0.0),
    (-2.20, 1.42, 0.47, -0.60, 0.0),
    (-2.80, 1.42, 0.50, -0.60, 0.0),
    (-3.80, 1.42, 0.50, -0.60, 0.0),
])[::-1]  # fmt: skip
_COLUMNS = 84
_MOUTH_ROW = 28


@dataclass(frozen=True)
class Surface:
    """One mesh in rest.

    Attributes:
        canonical: [V,3], where each vertex lies on the average head, for paint.
        rest: [V,3], shaped by identity.
        triangles: int [T,3], counter-clockwise seen from outside.
        head: [V], how much each vertex follows the head's rotation, 0..1.
        closed: faces turned away can be skipped.
        weld: int [V], the vertex whose normal each one shares, where a seam must not show.
    """

    canonical: np.ndarray
    rest: np.ndarray
    triangles: np.ndarray
    head: np.ndarray
    closed: bool = True
    weld: np.ndarray | None = None


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 at `low`, 1 at `high` (in either order), smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian of height 1 at (cx, cy)."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def grid_triangles(rows: int, columns: int, first: int = 0) -> np.ndarray:
    """Triangles [T,3] of a rows x columns grid; they face +z where columns run along x and rows along y."""
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel() + first
    b, c = a + 1, a + columns
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, c + 1, c], 1)])


def sections(table: np.ndarray, keys: np.ndarray, angles: np.ndarray, power: float = 0.92) -> np.ndarray:
    """Points [len(keys), len(angles), 3] of a lofted surface.

    Args:
        table: rows (front y, half width, front z, back z, rise of y to the back).
        keys: positions in the table, fractional.
        angles: about the y axis, 0 in front, pi/2 to the picture's right.
    """
    y, width, front, back, rise = (_smooth_lookup(table[:, k], keys)[:, None] for k in range(5))
    sine, cosine = np.sin(angles), np.cos(angles)
    side = np.sign(sine) * np.abs(sine) ** power
    middle = 0.35 * front + 0.65 * back
    middle = np.maximum(middle, np.minimum(front, -0.05))
    ahead = np.sign(cosine) * np.abs(cosine) ** 0.9
    z = middle + np.where(cosine >= 0, front - middle, middle - back) * ahead
    return np.stack([width * side, y + rise * ((1 - cosine) / 2) ** 1.5, z], axis=-1)


def _smooth_lookup(column: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Catmull-Rom interpolation."""
    padded = np.concatenate([[2 * column[0] - column[1]], column, [2 * column[-1] - column[-2]]])
    i = np.clip(keys.astype(int), 0, len(column) - 2)
    t = keys - i
    p0, p1, p2, p3 = (padded[i + k] for k in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                  + (3 * p1 - p0 - 3 * p2 + p3) * t**3)  # fmt: skip


def head_keys() -> np.ndarray:
    """Rows of the head grid as keys into its section table; the row of the mouth line comes twice."""
    below = np.concatenate([[0.0, 0.5, 1.0, 1.5], np.linspace(2, 5, _MOUTH_ROW - 3)])
    return np.concatenate([below, np.linspace(5, 9, 36), np.linspace(9.2, 14, 18)])


def head_angles() -> np.ndarray:
    """Columns of the head grid, dense in front."""
    s = np.linspace(-1, 1, _COLUMNS + 1)
    return np.pi * (0.48 * s + 0.52 * s**3)


def shape_of(look: Look) -> dict[str, float]:
    """The look's proportions by name (`SHAPE_NAMES`), about -1 to 1; 0 is average."""
    return dict(zip(SHAPE_NAMES, look.shape, strict=True))


@lru_cache(maxsize=1)
def _canonical_head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(canonical [V,3], triangles [T,3], triangles of the mouth opening [M,3]); shared by all looks."""
    keys, angles = head_keys(), head_angles()
    points = sections(_SECTIONS, keys, angles).reshape(-1, 3)
    columns = len(angles)
    triangles = grid_triangles(len(keys), columns)
    row = triangles // columns
    between = (row.min(1) == _MOUTH_ROW) & (row.max(1) == _MOUTH_ROW + 1)
    front = (np.abs(points[triangles, 0]) < MOUTH_HALF_WIDTH + 0.03).all(1) & (points[triangles, 2] > 0).all(1)
    return points, triangles[~between], triangles[between & front]


def lip_side() -> np.ndarray:
    """-1 for vertices up to the mouth line from below, +1 for those above; [V]."""
    rows = np.arange(len(head_keys())) > _MOUTH_ROW
    return np.repeat(np.where(rows, 1.0, -1.0), _COLUMNS + 1)


def features(points: np.ndarray, look: Look) -> np.ndarray:
    """Adds nose, brow ridge, eye sockets, lids, cheeks, lips and chin to canonical head points [V,3]."""
    shape = shape_of(look)
    man = look.person == "man"
    x, y, z = points.T
    ax = np.abs(x)
    front = smoothstep(0.0, 0.35, z)
    # The nose: a ridge that rises to the tip, a round tip, and wings.
    tip = -0.285 - 0.045 * shape["nose_length"]
    wide = 1 + 0.22 * shape["nose_width"] + (0.06 if man else -0.04)
    rise = smoothstep(0.24, tip, y) ** 1.25 * smoothstep(tip - 0.105, tip - 0.01, y)
    ridge = 0.035 * smoothstep(0.3, 0.1, y) + 0.17 * (1 + 0.12 * shape["nose_length"]) * rise
    ridge *= np.exp(-0.5 * (x / (0.056 + 0.038 * rise * wide)) ** 2) * smoothstep(0.34, 0.2, y)
    ridge *= smoothstep(tip - 0.11, tip - 0.02, y)
    push = ridge + 0.045 * bump(x, y, 0, tip, 0.055 * wide, 0.05)
    push += 0.075 * bump(ax, y, 0.088 * wide, tip - 0.03, 0.042 * wide, 0.045)
    # Brows, sockets, cheeks, muzzle, chin.
    push += (0.055 if man else 0.03) * bump(ax, y, 0.27, 0.25, 0.17, 0.06)
    push -= 0.095 * bump(ax, y, 0.27, 0.08, 0.15, 0.105)
    push -= 0.05 * bump(ax, y, 0.12, 0.10, 0.05, 0.07)
    push += (0.055 + 0.03 * shape["cheeks"]) * bump(ax, y, 0.40, -0.20, 0.16, 0.13)
    push -= (0.02 - 0.015 * shape["cheeks"]) * bump(ax, y, 0.42, -0.52, 0.12, 0.14)
    push += 0.065 * bump(x, y, 0, -0.60, 0.21, 0.15)
    full = 1 + 0.4 * shape["lips"] + (-0.15 if man else 0.1)
    taper = np.clip(1 - (x / MOUTH_HALF_WIDTH) ** 2, 0, 1) ** 0.7
    push += 0.045 * full * taper * np.exp(-0.5 * ((y - MOUTH_Y - 0.04) / 0.028) ** 2)
    push += 0.055 * full * taper * np.exp(-0.5 * ((y - MOUTH_Y + 0.048) / 0.032) ** 2)
    push -= 0.022 * np.exp(-0.5 * ((y - MOUTH_Y) / 0.014) ** 2) * bump(x, y, 0, MOUTH_Y, 0.22, 1)
    push -= 0.035 * bump(x, y, 0, -0.765, 0.14, 0.045)
    push += 0.055 * bump(x, y, 0, -0.91, 0.13, 0.08)
    push -= 0.012 * bump(x, y, 0, -0.46, 0.02, 0.06)
    out = points.copy()
    out[:, 2] = z + push * front
    out[:, 0] = x - 0.045 * np.sign(x) * bump(ax, y, 0.72, 0.30, 0.2, 0.2)
    # Lids lie on the eyeball: the larger of socket and ball, rounded where they meet.
    inside = EYE_RADIUS**2 * 1.09 - (ax - EYE[0]) ** 2 - (y - EYE[1]) ** 2
    ball = EYE_DEPTH + np.sqrt(np.maximum(inside, 0))
    gap = np.where(inside > 0, ball - out[:, 2], -1.0)
    soft = 0.03
    lifted = out[:, 2] + soft * np.log1p(np.exp(np.clip(gap / soft, -20, 20)))
    out[:, 2] = np.where(front > 0.5, np.where(inside > 0, lifted, out[:, 2]), out[:, 2])
    return out


def shaped(points: np.ndarray, look: Look) -> np.ndarray:
    """Moves points [V,3] of the head to this identity's proportions."""
    shape = shape_of(look)
    man = 1.0 if look.person == "man" else -1.0
    out = points.copy()
    x, y, z = points.T
    low = smoothstep(-0.15, -0.95, y)
    out[:, 0] *= 1 + 0.05 * shape["width"] + (0.085 * shape["jaw"] + 0.055 * man) * low
    out[:, 1] += -(0.07 * shape["chin"] + 0.025 * man) * smoothstep(-0.45, -1.0, y)
    ax = np.abs(x)
    eye = bump(ax, y, EYE[0], EYE[1], 0.17, 0.13) * (z > 0)
    grow = 0.13 * shape["eye_size"] - 0.05 * man
    out[:, 0] += np.sign(x) * eye * (grow * (ax - EYE[0]) + 0.028 * shape["eye_spacing"])
    out[:, 1] += eye * grow * (y - EYE[1]) * 1.2
    out[:, 1] += 0.03 * (shape["brow_height"] - 0.5 * man) * bump(ax, y, 0.28, 0.27, 0.25, 0.08) * (z > 0)
    return out


def express(points: np.ndarray, canonical: np.ndarray, motion: Motion, side: np.ndarray) -> np.ndarray:
    """Moves shaped head points [V,3] with jaw, mouth and brows.

    Args:
        canonical: their places on the head in rest [V,3].
        side: -1 where a point belongs to the lower lip's side of the mouth line, +1 to the upper; [V].
    """
    x, y, z = canonical.T
    ax = np.abs(x)
    front = smoothstep(-0.2, 0.4, z)
    out = points.copy()
    # The lips part: at the mouth line the upper one stays, the lower one goes with the jaw.
    part = np.clip(1 - (x / MOUTH_HALF_WIDTH) ** 2, 0, 1) ** 0.6 * (z > 0)
    near = np.exp(-0.5 * ((y - MOUTH_Y) / 0.13) ** 2)
    below = smoothstep(-0.30, -0.86, y) * smoothstep(-0.45, 0.25, z)
    follow = below + part * near * np.where(side > 0, -0.9 * below, 0.88 - below)
    angle = 0.30 * motion.jaw_open
    swung = out - JAW_HINGE
    cosine, sine = np.cos(angle), np.sin(angle)
    turned_y = cosine * swung[:, 1] - sine * swung[:, 2]
    turned_z = sine * swung[:, 1] + cosine * swung[:, 2]
    out[:, 1] += follow * (turned_y - swung[:, 1])
    out[:, 2] += follow * (turned_z - swung[:, 2])
    smile, pucker = motion.smile + 0.18, motion.pucker  # a mouth at rest looks friendly
    corner = bump(ax, y, MOUTH_HALF_WIDTH, MOUTH_Y, 0.13, 0.12) * front
    mouth = bump(x, y, 0, MOUTH_Y, 0.24, 0.14) * front
    out[:, 0] += np.sign(x) * corner * smile * 0.075
    out[:, 1] += corner * smile * 0.085
    out[:, 2] -= corner * max(smile, 0) * 0.05
    cheek = bump(ax, y, 0.38, -0.24, 0.13, 0.11) * front
    out[:, 1] += cheek * max(smile, 0) * 0.045
    out[:, 2] += cheek * max(smile, 0) * 0.05
    out[:, 0] -= pucker * 0.42 * x * mouth
    out[:, 2] += pucker * 0.075 * mouth
    brow = bump(ax, y, 0.27, 0.28, 0.20, 0.10) * front
    out[:, 1] += brow * motion.brow_raise * 0.06
    out[:, 0] += np.sign(x) * brow * min(motion.brow_raise, 0) * 0.03
    return out


def rotation(motion: Motion) -> np.ndarray:
    """The head's rotation [3,3]: yaw about y, then pitch (down positive) about x, then roll about z."""
    yaw, pitch, roll = np.deg2rad([motion.yaw, motion.pitch, -motion.roll])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def pose(points: np.ndarray, head: np.ndarray, motion: Motion) -> np.ndarray:
    """Turns points [V,3] about the neck; those with head < 1 follow only in part."""
    turned = (points - PIVOT) @ rotation(motion).T + PIVOT
    shift = np.array([motion.x, motion.y, 0.0])
    return points + head[:, None] * (turned - points) + (0.35 + 0.65 * head[:, None]) * shift


@lru_cache(maxsize=64)
def head_surface(look: Look) -> Surface:
    """The skull and face."""
    canonical, triangles, _ = _canonical_head()
    rest = shaped(features(canonical, look), look)
    weld = np.arange(len(rest)).reshape(-1, _COLUMNS + 1)
    closed_lips = np.abs(canonical[weld[_MOUTH_ROW], 0]) > MOUTH_HALF_WIDTH
    weld[_MOUTH_ROW + 1, closed_lips] = weld[_MOUTH_ROW, closed_lips]
    weld[:, -1] = weld[:, 0]
    return Surface(canonical, rest, triangles, np.ones(len(rest)), weld=weld.ravel())


def mouth_triangles() -> np.ndarray:
    """Triangles between the lips, on the head's vertices."""
    return _canonical_head()[2]


def ear_surface(look: Look) -> Surface:
    """Both ears: shallow bowls with a rim; the canonical z is the distance from the bowl's middle, 0..1."""
    radius, angle = np.linspace(1.0, 0.0, 8), np.linspace(0, 2 * np.pi, 21)
    r, a = np.meshgrid(radius, angle, indexing="ij")
    rim = 0.075 * np.exp(-0.5 * ((r - 0.80) / 0.16) ** 2) + 0.03 * np.exp(-0.5 * ((r - 0.35) / 0.12) ** 2)
    back = -0.07 * smoothstep(0.85, 1.0, r)
    y = EAR_Y + (0.235 * np.cos(a) + 0.02) * r
    z = -0.10 + 0.13 * np.sin(a) * r * (1 + 0.25 * np.cos(a)) - 0.05 * np.cos(a) * r
    x = 0.715 + rim + back - 0.42 * (z + 0.08) - 0.05 * (y < -0.15) * (r > 0.5)
    right = np.stack([x, y, z], -1).reshape(-1, 3)
    triangles = grid_triangles(len(radius), len(angle))
    points = np.concatenate([right, right * [-1, 1, 1]])
    both = np.concatenate([triangles, (triangles + len(right))[:, ::-1]])
    rest = shaped(points, look)
    canonical = np.stack([points[:, 0], points[:, 1], np.tile(r.ravel(), 2)], 1)
    return Surface(canonical, rest, both, np.ones(len(points)), closed=False)


@lru_cache(maxsize=64)
def body_surface(look: Look) -> Surface:
    """Neck, shoulders and chest."""
    man = look.person == "man"
    table = _BODY_SECTIONS.copy()
    neck = smoothstep(-1.3, -1.1, table[:, 0])
    table[:, 1] *= 1 + neck * (0.12 if man else -0.07) + (1 - neck) * (0.06 if man else -0.07)
    if look.clothes in ("sweater", "hoodie", "jacket"):
        table[:, 1] += 0.04 * (1 - neck)
        table[:, 2] += 0.03 * (1 - neck)
    keys, angles = np.linspace(0, len(table) - 1, 52), np.linspace(-np.pi, np.pi, 49)
    points = sections(table, keys, angles, power=0.85).reshape(-1, 3)
    return Surface(
        points, points.copy(), grid_triangles(len(keys), len(angles)), smoothstep(-1.42, -0.72, points[:, 1])
    )
