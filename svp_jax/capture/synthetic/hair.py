"""Hair, glasses and hoods of the synthetic head: shells and tubes around the canonical head."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from svp_jax.capture.synthetic.looks import Look
from svp_jax.capture.synthetic.mesh import (
    EYE,
    Surface,
    grid_triangles,
    head_angles,
    head_keys,
    head_surface,
    shaped,
    smoothstep,
)

HAIR, FRAME, CLOTH = 0, 1, 2
COVERS_EARS = ("long", "bob", "curly")


@dataclass(frozen=True)
class Style:
    """How hair lies: thickness of the shell on top and at the sides (head units), the direction that strands
    run from, and how far the hairline is above the average one."""

    top: float
    side: float
    pole: tuple[float, float, float]
    hairline: float = 0.0


STYLES = {
    "short": Style(0.13, 0.055, (0.45, 0.85, 0.25)),
    "long": Style(0.12, 0.12, (0.12, 1.0, 0.35)),
    "bob": Style(0.13, 0.14, (0.10, 1.0, 0.30)),
    "curly": Style(0.30, 0.27, (0.0, 1.0, 0.0), 0.02),
    "bun": Style(0.07, 0.05, (0.0, 0.85, -0.75), 0.02),
    "ponytail": Style(0.08, 0.05, (0.0, 0.65, -0.95), 0.01),
}


def hairline(canonical: np.ndarray, look: Look) -> np.ndarray:
    """Height of canonical points [n,3] above the edge of the hair (negative: bare skin), head units."""
    x, y, z = canonical.T
    angle = np.abs(np.arctan2(x, z))
    man = look.person == "man"
    front = 0.64 if man else 0.66
    temple = 0.36 if man else 0.30
    keys = np.array([0.0, 0.35, 0.62, 0.85, 1.10, 1.38, 1.50, 1.85, 2.1, np.pi])
    heights = np.array(
        [front, front - 0.01, front - 0.10, temple + 0.12, temple - 0.12, -0.02, -0.12, 0.12, -0.40, -0.52]
    )
    if look.hair_style in ("bun", "ponytail"):
        heights[5:8] += (0.10, 0.2, 0.0)
    if look.hair_style in ("long", "bob"):
        heights[4:9] = (0.10, -0.25, -0.45, -0.5, -0.52)
    if look.hair_style == "curly":
        heights[4:8] = (0.10, -0.10, -0.25, -0.35)
    if look.fringe and look.hair_style in ("short", "long", "bob"):
        low = 0.34 if look.hair_style != "short" else 0.44
        heights[:4] = (low, low - 0.005, low - 0.03, min(low - 0.08, heights[3]))
    elif look.hair_style in ("long", "bob"):
        # A parting: the line rises at the part and sweeps down to the sides.
        heights[:4] = (0.68, 0.62, 0.50, 0.34)
    edge = np.interp(angle, keys, heights)
    if look.hair_style == "short" and not look.fringe:
        edge = edge - 0.05 * np.exp(-0.5 * ((x + 0.22) / 0.2) ** 2) * (z > 0)
    return y - edge - STYLES[look.hair_style].hairline


@lru_cache(maxsize=64)
def cap_surface(look: Look) -> Surface | None:
    """The hair on the skull: the head's own grid, lifted; it sinks into the skin at the hairline."""
    if look.hair_style == "bald":
        return None
    style = STYLES[look.hair_style]
    head = head_surface(look)
    columns = len(head_angles())
    start = 0 if look.hair_style in ("long", "bob", "curly") else 12
    rows = len(head_keys()) - start
    canonical = head.canonical[start * columns :]
    above = hairline(canonical, look)
    x, y, z = canonical.T
    upward = smoothstep(0.15, 0.95, y)
    lift = style.side + (style.top - style.side) * upward
    rng = np.random.default_rng(look.seed)
    if look.hair_style == "curly":
        lift = lift * (1 + 0.24 * _lumps(rng, canonical, 6.5))
        lift = lift * (1 - 0.35 * smoothstep(-0.1, -0.5, y))
    elif look.hair_style == "short":
        quiff = np.exp(-0.5 * ((x + 0.1) / 0.35) ** 2) * smoothstep(0.3, 0.7, z) * smoothstep(0.5, 0.75, y)
        lift = lift + (0.0 if look.fringe else 0.07) * quiff + 0.012 * _lumps(rng, canonical, 6.0)
    else:
        lift = lift * (1 + 0.07 * _lumps(rng, canonical, 3.0))
    reach = 0.22 if look.hair_style != "curly" else 0.30
    fade = np.where(above > 0, 1 - (1 - np.clip(above / reach, 0, 1)) ** 2, above * 2)
    amount = np.where(above > 0, lift * fade + 0.012, np.clip(above, -0.1, 0))
    centre = np.array([0.0, 0.15, -0.1])
    outward = canonical - centre
    outward[:, 1] *= 0.9
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    triangles = grid_triangles(rows, columns)
    triangles = triangles[(above[triangles] > -0.04).any(1)]
    rest = head.rest[start * columns :] + outward * amount[:, None]
    # A thick shell is open at the hairline: its inside must be drawn too.
    return Surface(canonical, rest, triangles, np.ones(len(rest)), closed=look.hair_style != "curly")


def _lumps(rng: np.random.Generator, points: np.ndarray, frequency: float) -> np.ndarray:
    """Smooth noise about -1..1 at points [n,3]: plane waves in random directions."""
    directions = rng.normal(size=(12, 3))
    directions *= frequency * rng.uniform(0.6, 1.6, (12, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.sin(points @ directions.T + rng.uniform(0, 2 * np.pi, 12)).sum(1) / 3.5


def extra_surfaces(look: Look) -> list[tuple[int, Surface]]:
    """What hangs or sits around the head: (kind, surface) of hair masses, glasses and hood."""
    parts = []
    if look.hair_style in ("long", "bob"):
        parts.append((HAIR, _curtain(look)))
    if look.hair_style == "bun":
        parts.append((HAIR, _ball((0.0, 1.20, -0.36), 0.36)))
    if look.hair_style == "ponytail":
        parts.append((HAIR, _tail(look)))
    if look.glasses != "no":
        parts.append((FRAME, _glasses(look)))
    if look.clothes == "hoodie":
        parts.append((CLOTH, _hood(look)))
    return parts


def _curtain(look: Look) -> Surface:
    """Hair that falls behind the ears and, when long, in front of the shoulders; canonical y runs down it."""
    bottom = -1.02 if look.hair_style == "bob" else -2.15
    rng = np.random.default_rng(look.seed + 1)
    down = np.linspace(0, 1, 30)[:, None]
    y = bottom + (0.62 - bottom) * (1 - down)
    across = np.linspace(-1, 1, 61)
    long = look.hair_style == "long"
    flare = smoothstep(0.1, 1.0, down)
    opening = 1.12 - (0.55 * smoothstep(-0.5, -1.6, y) if long else 0.30 * smoothstep(-0.2, -0.9, y))
    angle = np.pi + across * (np.pi - opening)
    sway = rng.uniform(0, 6, 3)
    wave = (
        0.03 * np.sin(3.2 * y + sway[0])
        + 0.022 * np.sin(9 * angle + sway[1])
        + 0.016 * np.sin(17 * angle + sway[2] + 2 * y)
    )
    width = 0.80 + 0.09 * np.sin(np.pi * np.clip(down * 1.1, 0, 1)) + (0.10 * flare if long else -0.04 * flare)
    x = np.sin(angle) * (width + wave)
    depth = np.where(np.cos(angle) > 0, 0.62 + 0.28 * smoothstep(-1.0, -1.6, y), 0.98 - 0.2 * smoothstep(-0.6, -1.2, y))
    z = np.cos(angle) * (depth + wave) - 0.05
    x, y, z = np.broadcast_arrays(x, y, z)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    canonical = np.stack([np.sin(angle) + 0 * y, y, np.cos(angle) + 0 * y], -1).reshape(-1, 3)
    rest = shaped(points * [1, 1, 1], look)
    rest[:, 1] = points[:, 1]
    hold = 1 - 0.85 * smoothstep(-0.7, -1.9, points[:, 1])
    return Surface(canonical, rest, grid_triangles(30, 61)[:, ::-1], hold, closed=False)


def curtain_end(look: Look) -> float:
    """Canonical y at which the curtain's strands end."""
    return -0.98 if look.hair_style == "bob" else -2.05


def _ball(centre: tuple[float, float, float], radius: float) -> Surface:
    latitude, longitude = np.linspace(-np.pi / 2, np.pi / 2, 16), np.linspace(-np.pi, np.pi, 29)
    b, a = np.meshgrid(latitude, longitude, indexing="ij")
    unit = np.stack([np.cos(b) * np.sin(a), np.sin(b), np.cos(b) * np.cos(a)], -1).reshape(-1, 3)
    twist = 1 + 0.05 * np.sin(5 * a + 3 * b).ravel()
    points = np.array(centre) + radius * unit * [1.1, 0.85, 1.0] * twist[:, None]
    return Surface(unit, points, grid_triangles(16, 29), np.ones(len(points)))


def _tube(path: np.ndarray, radius: np.ndarray, around: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(points, triangles, (along, angle) of each point [V,2]) of a tube along `path` [n,3]."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    helper = np.where(np.abs(tangent[:, 2:]) > 0.8, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    side = np.cross(helper, tangent)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, around)
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * up[:, None]
    points = path[:, None] + radius[:, None, None] * ring
    along = np.broadcast_to(np.linspace(0, 1, len(path))[:, None], (len(path), around))
    where = np.stack([along, np.broadcast_to(angle, along.shape)], -1)
    return points.reshape(-1, 3), grid_triangles(len(path), around), where.reshape(-1, 2)


def _tail(look: Look) -> Surface:
    """A ponytail that leaves the back of the head high and falls over one shoulder."""
    side = 1.0 if look.seed % 2 else -1.0
    knots = np.array([(0.0, 0.72, -0.85), (0.25, 0.98, -1.15), (0.75, 0.72, -1.15), (0.98, 0.0, -0.75),
                      (0.92, -0.75, -0.2), (0.80, -1.45, 0.45), (0.74, -2.1, 0.62)])  # fmt: skip
    t = np.linspace(0, len(knots) - 1, 34)
    path = np.stack([np.interp(t, np.arange(len(knots)), knots[:, k]) for k in range(3)], 1)
    kernel = np.hanning(9)[1:-1] / np.hanning(9)[1:-1].sum()
    padded = np.pad(path, ((3, 3), (0, 0)), mode="edge")
    path = np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(3)], 1) * [side, 1, 1]
    s = np.linspace(0, 1, len(path))
    radius = 0.05 + 0.16 * np.sin(np.pi * np.clip(s * 1.04, 0, 1)) ** 0.6
    points, triangles, where = _tube(path, radius, 17)
    canonical = np.stack([np.cos(where[:, 1]), where[:, 0], np.sin(where[:, 1])], 1)
    hold = 1 - 0.8 * smoothstep(-0.5, -1.6, points[:, 1])
    return Surface(canonical, points, triangles, hold, closed=False)


def _glasses(look: Look) -> Surface:
    """Two rims, a bridge and the arms."""
    pieces = []
    turn = np.linspace(0, 2 * np.pi, 37)
    power = 1.0 if look.glasses == "round" else 0.55
    wide, high = (0.205, 0.185) if look.glasses == "round" else (0.225, 0.150)
    for side in (-1, 1):
        x = side * 0.315 + wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
        y = EYE[1] - 0.02 + high * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
        z = 0.955 - 0.22 * np.maximum(np.abs(x) - 0.2, 0) ** 1.4
        pieces.append(_tube(np.stack([x, y, z], 1), np.full(37, 0.019)))
        arm = np.linspace(0, 1, 10)
        start = 0.315 + wide
        path = np.stack(
            [side * (start + (0.76 - start) * np.minimum(arm * 4, 1)), 0.10 + 0 * arm, 0.88 - 0.92 * arm], 1
        )
        pieces.append(_tube(path, np.full(10, 0.018)))
    bridge = np.linspace(-1, 1, 9)
    path = np.stack([bridge * (0.33 - wide), 0.085 + 0.03 * (1 - bridge**2), 0.965 + 0.03 * (1 - bridge**2)], 1)
    pieces.append(_tube(path, np.full(9, 0.018)))
    first, points, triangles = 0, [], []
    for piece_points, piece_triangles, _ in pieces:
        points.append(piece_points)
        triangles.append(piece_triangles + first)
        first += len(piece_points)
    points = np.concatenate(points)
    return Surface(points, shaped(points, look), np.concatenate(triangles), np.ones(len(points)), closed=False)


def _hood(look: Look) -> Surface:
    """The hood's roll around the neck."""
    turn = np.linspace(-np.pi, np.pi, 41)
    path = np.stack(
        [0.60 * np.sin(turn), -1.40 + 0.30 * ((1 - np.cos(turn)) / 2) ** 1.2, -0.20 + 0.52 * np.cos(turn)], 1
    )
    radius = 0.10 + 0.09 * (1 - np.cos(turn)) / 2
    points, triangles, _ = _tube(path, radius, 15)
    return Surface(points, points, triangles, np.full(len(points), 0.12), closed=False)
