"""Draws the synthetic head: frame, labels, condition images and landmarks from look, motion and scene."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from svp_jax.capture import synthetic_paint as paint
from svp_jax.capture.synthetic_hair import FRAME, HAIR, STYLES, cap_surface, curtain_end, extra_surfaces, hairline
from svp_jax.capture.synthetic_looks import HAIR_COLORS, Look, Scene
from svp_jax.capture.synthetic_mesh import (
    EYE,
    EYE_DEPTH,
    JAW_HINGE,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    Surface,
    body_surface,
    ear_surface,
    express,
    features,
    head_surface,
    lip_side,
    mouth_triangles,
    pose,
    rotation,
    shaped,
    smoothstep,
)
from svp_jax.capture.synthetic_motion import Motion
from svp_jax.face.labels import LABEL_INDEX, colorize
from svp_jax.face.rasterizer import Fragments, color_normals, gather, rasterize, vertex_normals

_CAMERA = 7.0  # head units from the origin
_UNIT = 0.285  # of the picture's width, at the origin
_ORIGIN = (0.5, 0.455)
_HEAD, _MOUTH, _EAR, _BODY = range(4)


@dataclass(frozen=True)
class HeadImage:
    """One rendered head, S x S.

    Attributes:
        frame: uint8 [S,S,3] RGB.
        labels: uint8 [S,S], indices into `svp_jax.face.labels.LABELS`.
        parsing: uint8 [S,S,3], the labels in palette colours.
        geometry: uint8 [S,S,3], coloured normals of the face alone, eye and mouth openings black.
        iris: uint8 [S,S,3], right iris, left iris, eye openings.
        landmarks: float32 [L,3], the points of `LANDMARKS` in pixels (depth small is near, in pixels too).
    """

    frame: np.ndarray
    labels: np.ndarray
    parsing: np.ndarray
    geometry: np.ndarray
    iris: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class _Layer:
    """A posed mesh before the camera. attributes [V,9]: canonical 3, head-space position 3, normal 3 (view space)."""

    screen: np.ndarray
    attributes: np.ndarray
    triangles: np.ndarray
    material: np.ndarray  # [T]


def render_head(look: Look, motion: Motion, scene: Scene, size: int, supersample: int = 2) -> HeadImage:
    """Draws one picture; the same arguments give the same bytes.

    Args:
        size: width and height, a multiple of 64.
        supersample: samples per pixel and axis.

    Raises:
        ValueError: a size or supersample that is not allowed.
    """
    if size < 64 or size % 64:
        raise ValueError(f"size: got {size}, allowed are multiples of 64")
    if supersample not in (1, 2, 3, 4):
        raise ValueError(f"supersample: got {supersample}, allowed are 1 to 4")
    canvas = _Canvas(look, motion, scene, size, supersample)
    solid = _solid_layer(look, motion)
    seen = _see(solid, canvas)
    _draw_head(solid, seen, canvas)
    _draw_mouth(solid, seen, canvas)
    _draw_ears(solid, seen, canvas)
    _draw_body(solid, seen, canvas)
    geometry = _geometry(solid, seen, canvas)
    depth = seen.depth.ravel().copy()
    _draw_cap(canvas, depth)
    _draw_extras(canvas, depth)
    labels = canvas.labels.reshape(canvas.side, canvas.side)[:: supersample, :: supersample]
    return HeadImage(
        frame=_quantize(np.sqrt(np.clip(_shrink(canvas.light, canvas), 0, 1)) * 255),
        labels=np.ascontiguousarray(labels),
        parsing=colorize(labels),
        geometry=geometry,
        iris=_quantize(_shrink(canvas.iris, canvas) * 255),
        landmarks=_landmarks(canvas),
    )


class _Canvas:
    """The picture in the making, at `side` x `side` samples, flat: light [n,3], labels [n], iris [n,3]."""

    def __init__(self, look: Look, motion: Motion, scene: Scene, size: int, supersample: int):
        self.look, self.motion, self.scene = look, motion, scene
        self.size, self.supersample, self.side = size, supersample, size * supersample
        back = paint.background(scene, size).repeat(supersample, 0).repeat(supersample, 1)
        self.light = back.reshape(-1, 3)
        self.labels = np.zeros(self.side**2, np.uint8)
        self.iris = np.zeros((self.side**2, 3), np.float32)
        self.turn = rotation(motion)
        azimuth, elevation = np.deg2rad(scene.light)
        self.key = np.array(
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], np.float32
        )
        between = self.key + np.array([0, 0, 1], np.float32)
        self.half = between / np.linalg.norm(between)
        self.tint = scene.strength * np.array([1 + 0.10 * scene.warmth, 1, 1 - 0.14 * scene.warmth], np.float32)

    def put(self, pixels: np.ndarray, color: np.ndarray, label: str) -> None:
        self.light[pixels] = color
        self.labels[pixels] = LABEL_INDEX[label]

    def shine(self, normal: np.ndarray, wrap=(0.25, 0.25, 0.25)) -> np.ndarray:
        """Diffuse light [n,3] on unit normals; `wrap` per colour softens the shadow's edge (as skin does)."""
        toward = (normal @ self.key)[:, None]
        wrap = np.asarray(wrap, np.float32)
        direct = np.clip((toward + wrap) / (1 + wrap), 0, 1)
        side = np.clip(-normal[:, 0] * np.sign(self.key[0]) * 0.75 + normal[:, 2] * 0.5, 0, 1)
        around = 0.20 + 0.09 * normal[:, 1] + 0.13 * side
        return direct * (0.90 * self.tint) + around[:, None] * np.array([0.96, 1.0, 1.06], np.float32)

    def gloss(self, normal: np.ndarray, power: float) -> np.ndarray:
        """Highlight [n] on unit normals."""
        return np.clip(normal @ self.half, 0, 1) ** power * self.scene.strength


def _quantize(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture).astype(np.uint8)


def _shrink(samples: np.ndarray, canvas: _Canvas) -> np.ndarray:
    """Means over the samples of each pixel: [S,S,C]."""
    k = canvas.supersample
    grid = samples.reshape(canvas.size, k, canvas.size, k, -1)
    total = sum(grid[:, row, :, column] for row in range(k) for column in range(k))
    return total * np.float32(1 / (k * k))


def _unit(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors.T
    length = np.sqrt(x * x + y * y + z * z)
    return (vectors / np.maximum(length, 1e-6)[:, None]).astype(np.float32, copy=False)


# ---- meshes to fragments -------------------------------------------------------------------------------------


def _layer(parts: list[tuple[int, Surface, np.ndarray, np.ndarray]], motion: Motion) -> _Layer:
    """Joins posed parts, each (material, surface, positions before the pose [V,3], triangles [T,3])."""
    attributes, triangles, material, screen, first = [], [], [], [], 0
    for kind, surface, position, drawn in parts:
        posed = pose(position, surface.head, motion)
        normals = _normals(posed, surface)
        attributes.append(np.concatenate([surface.canonical, position, normals], 1))
        if surface.closed:
            drawn = drawn[_faces_viewer(posed, drawn)]
        triangles.append(drawn + first)
        material.append(np.full(len(drawn), kind, np.int8))
        screen.append(posed)
        first += len(posed)
    return _Layer(*(np.concatenate(x) for x in (screen, attributes, triangles, material)))


def _normals(points: np.ndarray, surface: Surface) -> np.ndarray:
    if surface.weld is None:
        return vertex_normals(points, surface.triangles)
    return vertex_normals(points, surface.weld[surface.triangles])[surface.weld]


def _faces_viewer(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    flat = points[:, :2] * (_CAMERA / (_CAMERA - points[:, 2:]))
    a, b, c = (flat[triangles[:, k]] for k in range(3))
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) > (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def _solid_layer(look: Look, motion: Motion) -> _Layer:
    head, ears, body = head_surface(look), _ears(look), body_surface(look)
    moved = express(head.rest, head.canonical, motion, lip_side())
    # The ears follow the skull, not the jaw.
    layer = _layer(
        [(_HEAD, head, moved, head.triangles), (_EAR, ears, ears.rest, ears.triangles),
         (_BODY, body, body.rest, body.triangles)], motion,
    )  # fmt: skip
    inside = mouth_triangles()
    return _Layer(
        layer.screen,
        layer.attributes,
        np.concatenate([layer.triangles, inside]),
        np.concatenate([layer.material, np.full(len(inside), _MOUTH, np.int8)]),
    )


@lru_cache(maxsize=64)
def _ears(look: Look) -> Surface:
    return ear_surface(look)


def project(points: np.ndarray, scene: Scene, size: float) -> np.ndarray:
    """Posed points [V,3] to pixels of a picture `size` wide: x right, y down, depth (small is near)."""
    scale = size * _UNIT * scene.scale
    nearer = _CAMERA / (_CAMERA - points[:, 2:])
    flat = points[:, :2] * [scale, -scale] * nearer + np.array(_ORIGIN) * size
    return np.concatenate([flat, -scale * points[:, 2:]], 1)


def _see(layer: _Layer, canvas: _Canvas) -> Fragments:
    screen = project(layer.screen, canvas.scene, canvas.side)
    return rasterize(screen, layer.triangles, canvas.side, canvas.side)


def _pick(layer: _Layer, seen: Fragments, *materials: int, where: np.ndarray | None = None):
    """(flat pixels, canonical [n,3], head-space position [n,3], unit normal [n,3]) of the given materials."""
    chosen = np.isin(layer.material, materials)[seen.triangle] & (seen.triangle >= 0)
    if where is not None:
        chosen &= where
    pixels, values = gather(seen, layer.attributes, layer.triangles, chosen)
    return pixels, values[:, :3], values[:, 3:6], _unit(values[:, 6:9])


# ---- the head ------------------------------------------------------------------------------------------------


def _draw_head(layer: _Layer, seen: Fragments, canvas: _Canvas) -> None:
    look = canvas.look
    pixels, canonical, position, normal = _pick(layer, seen, _HEAD)
    x, y, z = canonical.T
    color = paint.skin_color(canonical, look)
    shade = paint.skin_shade(canonical, look)
    if look.hair_style != "bald":
        bare = np.minimum(hairline(canonical, look), 0)
        shade *= 1 - 0.45 * np.exp(bare / 0.05)
    label = np.where((z > -0.02) & (y < 0.80), LABEL_INDEX["face"], LABEL_INDEX["skin"]).astype(np.uint8)
    nose = (np.abs(x) < 0.055 + 0.11 * smoothstep(0.10, -0.30, y)) & (y > -0.40) & (y < 0.15) & (z > 0.3)
    label[nose] = LABEL_INDEX["nose"]
    gloss = np.full(len(pixels), 0.085 + (0.05 if look.hair_style == "bald" else 0), np.float32)
    gloss *= 1 + 0.7 * paint.bump(x, y, 0, -0.27, 0.06, 0.06) + 0.4 * paint.bump(x, y, 0, 0.45, 0.25, 0.15)

    front = np.flatnonzero(z > 0.12)
    _paint_beard(front, canonical, color, shade, label, gloss, canvas)
    _paint_lips(front, canonical, color, label, gloss, look)
    _paint_brows(front, canonical, color, label, gloss, look)
    light = canvas.shine(normal, (0.42, 0.24, 0.16))
    lit = color * light * shade[:, None] + (gloss * canvas.gloss(normal, 22.0) * shade)[:, None]
    canvas.light[pixels] = lit
    canvas.labels[pixels] = label
    near_eyes = front[np.abs(np.abs(paint.eye_coordinates(canonical[front])[0])) < 1.35]
    near_eyes = near_eyes[np.abs(canonical[near_eyes, 1] - EYE[1]) < 0.17]
    _paint_eyes(pixels[near_eyes], canonical[near_eyes], position[near_eyes], normal[near_eyes], canvas)


def _paint_beard(front, canonical, color, shade, label, gloss, canvas: _Canvas) -> None:
    look = canvas.look
    if look.beard == "no":
        return
    x, y, z = canonical[front].T
    weight = paint.beard_weight(x, y, z, look)
    grown = weight > 0.02
    front, weight, x, y = front[grown], weight[grown], x[grown], y[grown]
    hairs = paint.strands(np.arctan2(x, 1.1 + y) * 0.75 + 0.004 * paint.noise(x, y, 160.0))
    clumps = paint.noise(x * 1.6, y, 200.0)
    dark = paint.linear(HAIR_COLORS[look.hair_color])
    if look.beard == "stubble":
        amount = weight * (0.42 + 0.10 * clumps)
        paint_on = dark * 0.8 + 0.02
    else:
        amount = smoothstep(0.25, 0.75, weight + 0.22 * hairs + 0.12 * clumps)
        label[front[amount > 0.5]] = LABEL_INDEX["beard"]
        paint_on = dark * np.clip(0.82 + 0.42 * hairs + 0.20 * clumps, 0.25, 2)[:, None]
    amount = np.clip(amount, 0, 1)
    color[front] += (paint_on - color[front]) * amount[:, None]
    gloss[front] *= 1 - 0.7 * amount
    shade[front] += (1 - shade[front]) * 0.5 * amount


def _paint_lips(front, canonical, color, label, gloss, look: Look) -> None:
    near = front[(np.abs(canonical[front, 0]) < 0.30) & (np.abs(canonical[front, 1] - MOUTH_Y) < 0.16)]
    x, height = canonical[near, 0], canonical[near, 1] - MOUTH_Y
    upper, lower = paint.lip_edges(x, look)
    inside = np.where(height > 0, upper - height, lower + height)
    amount = smoothstep(-0.008, 0.012, inside)
    tone = paint.lip_color(look) * np.where(height > 0, 0.86, 1.0)[:, None]
    tone = tone * (1 + 0.10 * paint.noise(x * 3.0, height * 0.4, 210.0))[:, None]
    line = np.exp(-0.5 * (height / 0.009) ** 2) * (np.abs(x) < MOUTH_HALF_WIDTH + 0.012)
    strength = 0.95 if look.lips != "natural" else 0.85
    color[near] += (tone - color[near]) * (strength * amount)[:, None]
    color[near] *= (1 - 0.72 * line)[:, None]
    gloss[near] += 0.20 * amount * (height < 0) + 0.05 * amount
    is_lip = inside > 0
    label[near[is_lip & (height > 0)]] = LABEL_INDEX["upper_lip"]
    label[near[is_lip & (height <= 0)]] = LABEL_INDEX["lower_lip"]


def _paint_brows(front, canonical, color, label, gloss, look: Look) -> None:
    near = front[(canonical[front, 1] > 0.12) & (canonical[front, 1] < 0.42)]
    x, y = canonical[near, 0], canonical[near, 1]
    weight = paint.brow_weight(x, y, look)
    hairs = paint.strands(np.abs(x) * 0.9 - y * 0.75)
    amount = np.clip(weight * (0.92 + 0.35 * hairs), 0, 1) * 0.92
    tone = paint.linear(HAIR_COLORS[look.hair_color]) * 0.55 + 0.004
    color[near] += (tone - color[near]) * amount[:, None]
    gloss[near] *= 1 - amount
    brow = weight > 0.45
    label[near[brow & (x < 0)]] = LABEL_INDEX["right_brow"]
    label[near[brow & (x > 0)]] = LABEL_INDEX["left_brow"]


def eye_centres(look: Look) -> np.ndarray:
    """Head-space centres of the right and left eyeball, [2,3]."""
    return shaped(np.array([[-EYE[0], EYE[1], EYE_DEPTH], [EYE[0], EYE[1], EYE_DEPTH]]), look)


def _gaze(motion: Motion, side: int) -> np.ndarray:
    """Unit gaze in head space; the eyes converge a little."""
    x, y = np.deg2rad([motion.gaze_x - side * 2.0, motion.gaze_y])
    return np.array([np.sin(x) * np.cos(y), np.sin(y), np.cos(x) * np.cos(y)], np.float32)


def _paint_eyes(pixels, canonical, position, normal, canvas: _Canvas) -> None:
    look, motion = canvas.look, canvas.motion
    sight = (np.array([0.0, 0.0, -1.0]) @ canvas.turn).astype(np.float32)
    key, half = canvas.key @ canvas.turn, canvas.half @ canvas.turn
    centres = eye_centres(look).astype(np.float32)
    for index, side in enumerate((-1, 1)):
        mine = np.flatnonzero(np.sign(canonical[:, 0]) == side)
        u, v = paint.eye_coordinates(canonical[mine])
        blink = motion.blink_right if side < 0 else motion.blink_left
        upper, lower = paint.lid_curves(u, blink, motion.gaze_y, max(motion.smile, 0))
        rest_upper = paint.lid_curves(u, 0.0, 0.0, 0.0)[0]
        at = pixels[mine]
        # Lid skin: crease, lashes, and the wet edge below.
        above, below = v - upper, lower - v
        wide = smoothstep(1.16, 0.96, np.abs(u))
        lash = np.exp(-0.5 * ((above - 0.004) / (0.0085 + 0.004 * u)) ** 2) * wide
        crease = np.exp(-0.5 * ((v - rest_upper - 0.042 + 0.012 * blink) / 0.0075) ** 2) * smoothstep(1.25, 0.7, np.abs(u))
        rim = np.exp(-0.5 * ((below - 0.004) / 0.007) ** 2) * wide
        woman = look.person == "woman"
        dark = 1 - 0.38 * crease - 0.25 * rim - (0.93 if woman else 0.78) * lash
        if woman:
            dark -= 0.16 * smoothstep(0.06, 0.01, above) * (above > 0) * wide
        canvas.light[at] *= np.clip(dark, 0.03, 1)[:, None]
        is_open = (np.abs(u) < 1) & (above < 0) & (below < 0)
        if not is_open.any():
            continue
        at, u, above, below = at[is_open], u[is_open], above[is_open], below[is_open]
        ball = paint.eyeball(position[mine[is_open]], sight, centres[index])
        gaze = _gaze(motion, side)
        cosine = ball @ gaze
        across = ball - cosine[:, None] * gaze
        radius = np.sqrt((across**2).sum(1)) / paint.IRIS_SINE + (cosine < 0) * 9
        color = np.broadcast_to(np.array([0.66, 0.63, 0.61], np.float32), ball.shape).copy()
        color *= (1 - np.outer(0.30 * smoothstep(0.6, 1.0, np.abs(u)), [0.35, 1, 1])).astype(np.float32)
        disc = smoothstep(1.04, 0.96, radius)
        paint.mix(color, paint.iris_color(np.minimum(radius, 1.2), np.arctan2(across[:, 1], across[:, 0]), look), disc)
        shadow = 0.50 + 0.50 * smoothstep(0.0, 0.05, -above)
        shadow *= 0.80 + 0.20 * smoothstep(0.0, 0.02, -below)
        shadow *= 1 - 0.25 * smoothstep(0.75, 1.0, np.abs(u))
        view = np.clip(ball @ key, 0, 1) * 0.5 + 0.62
        color *= (view * shadow * (0.55 + 0.45 * canvas.scene.strength))[:, None]
        glint = (0.75 * half + 0.25 * gaze) / np.linalg.norm(0.75 * half + 0.25 * gaze)
        spot = smoothstep(0.9900, 0.9945, ball @ glint.astype(np.float32))
        paint.mix(color, (0.95, 0.95, 0.95), 0.9 * spot)
        canvas.light[at] = color
        canvas.labels[at] = LABEL_INDEX["right_eye" if side < 0 else "left_eye"]
        canvas.labels[at[radius < 1]] = LABEL_INDEX["iris"]
        canvas.iris[at, index] = disc
        canvas.iris[at, 2] = 1


def _jaw_point(motion: Motion, point: np.ndarray) -> np.ndarray:
    """Where a head-space point fixed to the lower jaw is."""
    angle = 0.30 * motion.jaw_open
    cosine, sine = np.cos(angle), np.sin(angle)
    return JAW_HINGE + np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ (point - JAW_HINGE)


def _draw_mouth(layer: _Layer, seen: Fragments, canvas: _Canvas) -> None:
    pixels, canonical, position, _ = _pick(layer, seen, _MOUTH)
    if not len(pixels):
        return
    plane = 0.74
    sight = (np.array([0.0, 0.0, -1.0]) @ canvas.turn).astype(np.float32)
    reach = (plane - 0.5 * position[:, 0] ** 2 - position[:, 2]) / min(sight[2], -0.3)
    point = position + reach[:, None] * sight
    low = _jaw_point(canvas.motion, np.array([0.0, MOUTH_Y - 0.02, plane]))
    color, _ = paint.mouth_interior(point.astype(np.float32), low, MOUTH_Y - 0.042)
    # The lips throw a shadow on what is behind them.
    opening = 0.30 + 0.70 * smoothstep(1.0, 0.55, np.abs(canonical[:, 0]) / MOUTH_HALF_WIDTH)
    below_lip = smoothstep(0.02, -0.05, point[:, 1] - (MOUTH_Y + 0.035))
    shade = (0.55 + 0.45 * below_lip) * opening * (0.60 + 0.35 * canvas.scene.strength)
    canvas.put(pixels, color * shade[:, None], "inner_mouth")


def _draw_ears(layer: _Layer, seen: Fragments, canvas: _Canvas) -> None:
    pixels, canonical, _, normal = _pick(layer, seen, _EAR)
    rim = canonical[:, 2]
    place = np.stack([canonical[:, 0], canonical[:, 1], np.full(len(rim), -0.1, np.float32)], 1)
    color = paint.skin_color(place, canvas.look) * np.array([1.0, 0.88, 0.86], np.float32)
    shade = 0.62 + 0.38 * smoothstep(0.45, 0.85, rim)
    normal = np.where(normal[:, 2:] < 0, -normal, normal)
    canvas.put(pixels, color * canvas.shine(normal, (0.5, 0.28, 0.2)) * shade[:, None], "skin")


# ---- neck and clothes ----------------------------------------------------------------------------------------


def _neckline(canonical: np.ndarray, look: Look) -> np.ndarray:
    """Signed distance below the neckline of the clothes (positive: cloth), about head units."""
    x, y, z = canonical.T
    ax = np.abs(x)
    back = smoothstep(0.0, -0.35, z)
    if look.clothes == "turtleneck":
        return -1.03 - y
    crew = {"t-shirt": -1.50, "sweater": -1.43, "hoodie": -1.48}.get(look.clothes, -1.46)
    line = crew + 0.16 * smoothstep(0.05, 0.45, ax) + 0.10 * back
    if look.clothes == "shirt":
        line = np.minimum(line, -1.66 + 1.15 * ax) + 0.13
    return line - y


def _draw_body(layer: _Layer, seen: Fragments, canvas: _Canvas) -> None:
    look = canvas.look
    pixels, canonical, _, normal = _pick(layer, seen, _BODY)
    x, y, z = canonical.T
    under = _neckline(canonical, look)
    cloth = under > 0
    # The chin's shadow on the neck.
    dim = 0.42 + 0.58 * smoothstep(-1.0, -1.42, y) * smoothstep(-0.35, 0.0, z)
    color = paint.skin_color(canonical * [1, 1, 0.0] + [0, 0, -0.1], look)
    cord = np.exp(-0.5 * ((np.abs(x) - 0.12 - 0.55 * (-1.0 - y) * -0.4) / 0.05) ** 2)
    skin = color * canvas.shine(normal, (0.42, 0.24, 0.16)) * (dim * (1 - 0.06 * cord))[:, None]
    skin *= (1 - 0.45 * np.exp(-np.clip(-under, 0, 1) / 0.035))[:, None]
    canvas.put(pixels[~cloth], skin[~cloth], "skin")
    _draw_cloth(pixels[cloth], canonical[cloth], normal[cloth], under[cloth], canvas)


def _draw_cloth(pixels, canonical, normal, under, canvas: _Canvas) -> None:
    look = canvas.look
    x, y, z = canonical.T
    ax = np.abs(x)
    color = paint.cloth_color(canonical, look)
    shade = np.ones(len(pixels), np.float32)
    if look.clothes == "turtleneck":
        roll = (y > -1.36).astype(np.float32)
        shade *= 1 - 0.35 * np.exp(-0.5 * ((y + 1.36) / 0.025) ** 2) - 0.12 * roll * (np.sin(np.arctan2(x, z) * 70) > 0.4)
        shade *= 0.55 + 0.45 * smoothstep(-1.0, -1.3, y)
    elif look.clothes in ("sweater", "t-shirt", "hoodie"):
        wide = 0.085 if look.clothes == "sweater" else 0.05
        band = smoothstep(wide + 0.008, wide - 0.008, under)
        shade *= 1 - 0.10 * band - 0.35 * np.exp(-0.5 * ((under - wide) / 0.009) ** 2)
        if look.clothes == "hoodie":
            cord = np.exp(-0.5 * ((ax - 0.16 - 0.02 * np.sin(9 * y)) / 0.014) ** 2) * (y > -2.2) * (z > 0)
            paint.mix(color, (0.75, 0.74, 0.70), cord)
            shade *= 1 - 0.3 * np.exp(-0.5 * ((ax - 0.185 - 0.02 * np.sin(9 * y)) / 0.012) ** 2) * (y > -2.2) * (z > 0)
    elif look.clothes == "shirt":
        flap = (under < 0.20 - 0.10 * smoothstep(0.3, 0.6, ax)) & (z > -0.3)
        edge = np.exp(-0.5 * ((under - (0.20 - 0.10 * smoothstep(0.3, 0.6, ax))) / 0.012) ** 2)
        shade *= 1 - 0.42 * edge * (z > -0.3) + 0.08 * flap
        placket = np.exp(-0.5 * ((ax - 0.055) / 0.007) ** 2) * (~flap) * (z > 0)
        button = smoothstep(0.026, 0.018, np.hypot(x, (y * 3.2) % 1 / 3.2 - 0.16)) * ~flap * (z > 0)
        shade *= 1 - 0.25 * placket
        paint.mix(color, (0.72, 0.70, 0.65), button * 0.8)
    else:
        inner = (y > -2.45 + 2.4 * ax) & (z > 0)
        edge = np.abs(y + 2.45 - 2.4 * ax) / 2.6
        tee = np.array([0.72, 0.71, 0.69], np.float32) if look.clothes_color != "white" else np.array([0.05, 0.06, 0.08])
        color[inner] = tee * (1 + 0.05 * paint.noise(x[inner], y[inner], 300.0))[:, None]
        lapel = (y > -2.62 + 1.55 * ax) & ~inner & (z > 0) & (y < -1.5)
        shade *= 1 - 0.55 * np.exp(-edge / 0.03) * inner - 0.3 * np.exp(-edge / 0.012) * ~inner * (z > 0)
        shade *= 1 + 0.14 * lapel
        shade *= 1 - 0.3 * np.exp(-0.5 * ((y + 2.62 - 1.55 * ax) / 0.02) ** 2) * ~inner * (z > 0) * (y < -1.5)
    dim = 0.60 + 0.40 * smoothstep(-1.30, -1.72, y + 0.4 * ax * -1)
    crumple = 0.16 * paint.noise(x * 0.5, y * 0.4, 90.0)
    canvas.put(pixels, color * canvas.shine(normal) * (shade * dim * (1 + 0.35 * crumple))[:, None], "clothes")


# ---- hair, glasses, hood -------------------------------------------------------------------------------------


def _hair_light(color, normal, tangent, canvas: _Canvas, fine: np.ndarray) -> np.ndarray:
    """Hair colour under the light, with the band of highlights that runs across strands."""
    along = tangent - normal * (tangent * normal).sum(1, keepdims=True)
    along = _unit(along + normal * (0.10 * fine)[:, None])
    lit = color * canvas.shine(normal, (0.3, 0.3, 0.3))
    across = np.sqrt(np.clip(1 - (along @ canvas.half) ** 2, 0, 1))
    band = across**48 * np.clip(normal @ canvas.key + 0.35, 0, 1) * canvas.scene.strength
    return lit + (0.05 + 0.32 * color) * (band * (1 + 0.6 * fine))[:, None]


def _draw_cap(canvas: _Canvas, depth: np.ndarray) -> None:
    look = canvas.look
    surface = cap_surface(look)
    if surface is None:
        return
    layer = _layer([(HAIR, surface, surface.rest, surface.triangles)], canvas.motion)
    seen = _see(layer, canvas)
    nearer = seen.depth < depth.reshape(seen.depth.shape)
    pixels, canonical, _, normal = _pick(layer, seen, HAIR, where=nearer)
    pole = np.array(STYLES[look.hair_style].pole, np.float32)
    pole /= np.linalg.norm(pole)
    helper = np.array([0.0, 0.0, 1.0]) if abs(pole[2]) < 0.7 else np.array([0.0, 1.0, 0.0])
    first = np.cross(helper, pole) / np.linalg.norm(np.cross(helper, pole))
    second = np.cross(pole, first)
    outward = _unit(canonical - np.array([0.0, 0.1, -0.1], np.float32))
    u = np.arctan2(outward @ first, outward @ second) / (2 * np.pi)
    v = np.arccos(np.clip(outward @ pole, -1, 1))
    curly = look.hair_style == "curly"
    fine = paint.strands(u * 0.9 + 0.003 * paint.noise(u * 2, v, 140.0))
    if curly:
        fine = 0.6 * paint.noise(u * 4, v * 1.2, 170.0)
    above = hairline(canonical, look)
    inside = normal[:, 2] < -0.05
    kept = above + 0.030 * fine - 0.004 > 0
    color = paint.hair_color(u, v, look, curly)
    color *= (0.62 + 0.38 * smoothstep(-0.02, 0.14, above))[:, None]
    color *= ((0.70 + 0.30 * smoothstep(-0.7, 0.3, canonical[:, 1])) * np.where(inside, 0.35, 1))[:, None]
    if curly:
        tilt = [paint.noise(u * 4, v * 1.2 + shift, 170.0) for shift in (0.0, 0.5)]
        normal = _unit(normal + 0.42 * np.stack([*tilt, np.zeros_like(u)], 1))
    tangent = np.broadcast_to((pole @ canvas.turn.T).astype(np.float32), normal.shape)
    lit = _hair_light(color, normal, tangent, canvas, fine)
    canvas.put(pixels[kept], lit[kept], "hair")
    depth[pixels[kept]] = seen.depth.ravel()[pixels[kept]]


def _draw_extras(canvas: _Canvas, depth: np.ndarray) -> None:
    look = canvas.look
    parts = _extras(look)
    if not parts:
        return
    layer = _layer([(kind, part, part.rest, part.triangles) for kind, part in parts], canvas.motion)
    seen = _see(layer, canvas)
    nearer = seen.depth < depth.reshape(seen.depth.shape)
    pixels, canonical, _, normal = _pick(layer, seen, HAIR, where=nearer)
    if len(pixels):
        _draw_mass(pixels, canonical, normal, canvas)
    pixels, _, _, normal = _pick(layer, seen, FRAME, where=nearer)
    if len(pixels):
        base = np.array([0.012, 0.012, 0.014], np.float32) if look.seed % 3 else np.array([0.10, 0.045, 0.02], np.float32)
        normal = np.where(normal[:, 2:] < 0, -normal, normal)
        shine = (0.5 * canvas.gloss(normal, 30.0))[:, None]
        canvas.put(pixels, base * canvas.shine(normal) + shine, "glasses")
    pixels, canonical, _, normal = _pick(layer, seen, 2, where=nearer)
    if len(pixels):
        color = paint.cloth_color(canonical, look)
        normal = np.where(normal[:, 2:] < 0, -normal, normal)
        shade = 0.45 + 0.55 * smoothstep(0.25, 0.75, np.hypot(canonical[:, 0], canonical[:, 2] + 0.2))
        canvas.put(pixels, color * canvas.shine(normal) * shade[:, None], "clothes")


@lru_cache(maxsize=64)
def _extras(look: Look) -> tuple:
    return tuple(extra_surfaces(look))


def _draw_mass(pixels, canonical, normal, canvas: _Canvas) -> None:
    look = canvas.look
    x, y, z = canonical.T
    u = np.arctan2(x, z) / (2 * np.pi)
    v = y * 0.5
    fine = paint.strands(u * 0.9 + 0.004 * paint.noise(u * 2, v, 140.0))
    inside = normal[:, 2] < 0
    normal = np.where(inside[:, None], -normal, normal)
    color = paint.hair_color(u, v, look)
    color *= np.where(inside, 0.30, 1.0)[:, None]
    kept = np.ones(len(pixels), bool)
    if look.hair_style in ("long", "bob"):
        kept = y > curtain_end(look) + 0.10 * fine
        color *= (0.80 + 0.20 * smoothstep(-1.5, 0.0, y))[:, None]
        down = np.array([0.0, 1.0, 0.0], np.float32)
    elif look.hair_style == "ponytail":
        down = np.array([0.0, 1.0, 0.0], np.float32)
    else:
        down = np.array([0.0, 0.3, 0.95], np.float32)
    lit = _hair_light(color, normal, np.broadcast_to(down, normal.shape), canvas, fine)
    canvas.put(pixels[kept], lit[kept], "hair")


# ---- maps ----------------------------------------------------------------------------------------------------


def _geometry(layer: _Layer, seen: Fragments, canvas: _Canvas) -> np.ndarray:
    """Coloured normals of the face as a morphable model knows it: no ears, hair, glasses or openings."""
    pixels, canonical, _, normal = _pick(layer, seen, _HEAD)
    x, y, z = canonical.T
    face = (z > 0.0) & (y < 0.56 - 0.18 * x**2)
    face &= canvas.iris[pixels, 2] == 0
    colors = np.zeros((canvas.side**2, 3), np.float32)
    colors[pixels[face]] = color_normals(normal[face], np.ones(int(face.sum()), bool))
    return _quantize(_shrink(colors, canvas))


@lru_cache(maxsize=1)
def _depth_map() -> tuple[np.ndarray, float]:
    """z of the canonical head seen from the front: ([512,512] for x and y in -1.2..1.2, pixels per unit)."""
    head = head_surface(Look())
    scale = 512 / 2.4
    screen = np.stack(
        [(head.canonical[:, 0] + 1.2) * scale, (1.2 - head.canonical[:, 1]) * scale, -head.canonical[:, 2]], 1
    )
    return -rasterize(screen, head.triangles, 512, 512).depth, scale


def _landmark_table() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(names, canonical x and y [L,2], side of the mouth line [L]) of the landmarks that do not blink."""
    names, points, sides = [], [], []

    def add(name: str, xs, ys, side: float = 1.0) -> None:
        for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
            names.append(f"{name}_{number}")
            points.append((x, y))
            sides.append(side)

    turn = np.linspace(-1, 1, 17)
    add("jaw", 0.66 * np.sin(turn * 1.45), 0.05 - 0.99 * np.cos(turn * np.pi / 2) ** 0.8, -1.0)
    for name, side in (("right_brow", -1), ("left_brow", 1)):
        x = np.linspace(0.47, 0.13, 5) if side < 0 else np.linspace(0.13, 0.47, 5)
        t = (x - 0.115) / 0.36
        add(name, side * x, 0.225 + 0.075 * np.sin(t * 2.35) - 0.015 * t)
    add("nose_ridge", [0.0] * 4, [0.14, 0.0, -0.14, -0.285])
    add("nose_base", [-0.12, -0.06, 0.0, 0.06, 0.12], [-0.345, -0.38, -0.395, -0.38, -0.345])
    return tuple(names), np.array(points), np.array(sides)


_LIP_X = np.array([-1.0, -0.66, -0.3, 0.0, 0.3, 0.66, 1.0])
LANDMARKS = (
    *_landmark_table()[0],
    *(f"{eye}_{n}" for eye in ("right_eye", "left_eye") for n in range(6)),
    *(f"outer_lip_{n}" for n in range(12)),
    *(f"inner_lip_{n}" for n in range(8)),
    "right_iris",
    "left_iris",
)


def _landmarks(canvas: _Canvas) -> np.ndarray:
    """The points of `LANDMARKS`, float32 [L,3] in pixels."""
    look, motion = canvas.look, canvas.motion
    _, points, sides = _landmark_table()
    groups, sides = [points], [sides]
    u = np.array([-1.0, -0.4, 0.4, 1.0, 0.4, -0.4])
    for side in (-1, 1):
        blink = motion.blink_right if side < 0 else motion.blink_left
        along = -u if side < 0 else u
        upper, lower = paint.lid_curves(along, blink, motion.gaze_y, max(motion.smile, 0))
        x = side * (EYE[0] + along * paint.EYE_HALF_WIDTH)
        groups.append(np.stack([x, EYE[1] + np.where(np.arange(6) < 4, upper, lower)], 1))
        sides.append(np.ones(6))
    x = _LIP_X * MOUTH_HALF_WIDTH
    above, below = paint.lip_edges(x, look)
    groups += [np.stack([x, MOUTH_Y + above], 1), np.stack([x, MOUTH_Y - below], 1)[-2:0:-1]]
    inner = x[1:-1] * 0.95
    groups += [np.stack([inner, 0 * inner + MOUTH_Y], 1), np.stack([inner[-2:0:-1], 0 * inner[1:-1] + MOUTH_Y], 1)]
    sides += [np.ones(7), -np.ones(5), np.ones(5), -np.ones(3)]
    flat, side = np.concatenate(groups), np.concatenate(sides)
    depths, scale = _depth_map()
    column = np.clip(((flat[:, 0] + 1.2) * scale).astype(int), 0, 511)
    row = np.clip(((1.2 - flat[:, 1]) * scale).astype(int), 0, 511)
    z = np.where(np.isfinite(depths[row, column]), depths[row, column], 0.0)
    canonical = np.concatenate([flat, z[:, None]], 1)
    moved = express(shaped(features(canonical, look), look), canonical, motion, side)
    irises = eye_centres(look) + 0.155 * np.stack([_gaze(motion, -1), _gaze(motion, 1)])
    every = np.concatenate([moved, irises])
    posed = pose(every, np.ones(len(every)), motion)
    return project(posed, canvas.scene, canvas.size).astype(np.float32)
