"""Draws what the head wears: neck and clothes, hair, glasses and hood."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from svp_jax.capture.synthetic import paint
from svp_jax.capture.synthetic.canvas import BODY, Canvas, Layer, build_layer, pick, see, toward_viewer, unit
from svp_jax.capture.synthetic.hair import (
    CLOTH,
    FRAME,
    HAIR,
    STYLES,
    cap_surface,
    curtain_end,
    extra_surfaces,
    hairline,
)
from svp_jax.capture.synthetic.looks import Look
from svp_jax.capture.synthetic.mesh import smoothstep
from svp_jax.face.rasterizer import Fragments

_FRAME_COLORS = ((0.10, 0.045, 0.02), (0.012, 0.012, 0.014), (0.012, 0.012, 0.014))


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


def draw_body(layer: Layer, seen: Fragments, bare: np.ndarray, canvas: Canvas) -> None:
    """Paints neck and clothes where `bare`, bool [side,side]: not behind hair or hood."""
    look = canvas.look
    pixels, canonical, _, normal = pick(layer, seen, BODY, where=bare)
    under = _neckline(canonical, look)
    cloth = under > 0
    _draw_cloth(pixels[cloth], canonical[cloth], normal[cloth], under[cloth], canvas)
    pixels, canonical, normal, under = pixels[~cloth], canonical[~cloth], normal[~cloth], under[~cloth]
    x, y, z = canonical.T
    color = paint.skin_color(np.stack([x, y, np.full_like(x, -0.1)], 1), look)
    # The chin throws a shadow on the neck, the collar one on the skin beside it.
    dim = 0.42 + 0.58 * smoothstep(-1.0, -1.42, y) * smoothstep(-0.35, 0.0, z)
    dim *= 1 - 0.45 * np.exp(np.minimum(under, 0) / 0.035)
    canvas.put(pixels, color * canvas.shine(normal, (0.42, 0.24, 0.16)) * dim[:, None], "skin")


def _draw_cloth(pixels, canonical, normal, under, canvas: Canvas) -> None:
    look = canvas.look
    x, y, z = canonical.T
    ax = np.abs(x)
    color = paint.cloth_color(canonical, look)
    shade = np.ones(len(pixels), np.float32)
    if look.clothes == "turtleneck":
        roll = (y > -1.36).astype(np.float32)
        shade *= (
            1 - 0.35 * np.exp(-0.5 * ((y + 1.36) / 0.025) ** 2) - 0.12 * roll * (np.sin(np.arctan2(x, z) * 70) > 0.4)
        )
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
        tee = (
            np.array([0.72, 0.71, 0.69], np.float32) if look.clothes_color != "white" else np.array([0.05, 0.06, 0.08])
        )
        color[inner] = tee * (1 + 0.05 * paint.noise(x[inner], y[inner], 300.0))[:, None]
        lapel = (y > -2.62 + 1.55 * ax) & ~inner & (z > 0) & (y < -1.5)
        shade *= 1 - 0.55 * np.exp(-edge / 0.03) * inner - 0.3 * np.exp(-edge / 0.012) * ~inner * (z > 0)
        shade *= 1 + 0.14 * lapel
        shade *= 1 - 0.3 * np.exp(-0.5 * ((y + 2.62 - 1.55 * ax) / 0.02) ** 2) * ~inner * (z > 0) * (y < -1.5)
    dim = 0.60 + 0.40 * smoothstep(-1.30, -1.72, y + 0.4 * ax * -1)
    crumple = 0.16 * paint.noise(x * 0.5, y * 0.4, 90.0)
    canvas.put(pixels, color * canvas.shine(normal) * (shade * dim * (1 + 0.35 * crumple))[:, None], "clothes")


def _hair_light(color, normal, tangent, canvas: Canvas, fine: np.ndarray) -> np.ndarray:
    """Hair colour under the light, with the band of highlights that runs across strands."""
    along = tangent - normal * (tangent * normal).sum(1, keepdims=True)
    along = unit(along + normal * (0.10 * fine)[:, None])
    lit = color * canvas.shine(normal, (0.3, 0.3, 0.3))
    across = np.sqrt(np.clip(1 - (along @ canvas.half) ** 2, 0, 1))
    band = across**48 * np.clip(normal @ canvas.key + 0.35, 0, 1) * canvas.scene.strength
    return lit + (0.05 + 0.32 * color) * (band * (1 + 0.6 * fine))[:, None]


def draw_cap(canvas: Canvas, depth: np.ndarray) -> None:
    """Draws the hair on the skull where it is nearer than `depth` [side * side] in samples, and updates that."""
    look = canvas.look
    surface = cap_surface(look)
    if surface is None:
        return
    layer = build_layer([(HAIR, surface, surface.rest, surface.triangles)], canvas.motion)
    seen = see(layer, canvas)
    nearer = seen.depth < depth.reshape(seen.depth.shape)
    pixels, canonical, _, normal = pick(layer, seen, HAIR, where=nearer)
    pole = np.array(STYLES[look.hair_style].pole, np.float32)
    pole /= np.linalg.norm(pole)
    helper = np.array([0.0, 0.0, 1.0]) if abs(pole[2]) < 0.7 else np.array([0.0, 1.0, 0.0])
    first = np.cross(helper, pole) / np.linalg.norm(np.cross(helper, pole))
    second = np.cross(pole, first)
    outward = unit(canonical - np.array([0.0, 0.1, -0.1], np.float32))
    u = np.arctan2(outward @ first, outward @ second) / (2 * np.pi)
    v = np.arccos(np.clip(outward @ pole, -1, 1))
    curly = look.hair_style == "curly"
    fine = paint.strands(u * 0.9 + 0.003 * paint.noise(u * 2, v, 140.0))
    if curly:
        fine = 0.6 * paint.noise(u * 4, v * 1.2, 170.0)
    above = hairline(canonical, look)
    inside = normal[:, 2] < -0.05
    # Strands of uneven length; a thick shell just sinks into the skin.
    kept = above + fine * (0.008 + 0.024 * smoothstep(0.2, 0.5, canonical[:, 2])) - 0.004 > 0
    kept |= curly
    color = paint.hair_color(u, v, look, curly)
    color *= (0.62 + 0.38 * smoothstep(-0.02, 0.14, above))[:, None]
    color *= ((0.70 + 0.30 * smoothstep(-0.7, 0.3, canonical[:, 1])) * np.where(inside, 0.35, 1))[:, None]
    if curly:
        tilt = [paint.noise(u * 4, v * 1.2 + shift, 170.0) for shift in (0.0, 0.5)]
        normal = unit(normal + 0.42 * np.stack([*tilt, np.zeros_like(u)], 1))
    tangent = np.broadcast_to((pole @ canvas.turn.T).astype(np.float32), normal.shape)
    lit = _hair_light(color, normal, tangent, canvas, fine)
    canvas.put(pixels[kept], lit[kept], "hair")
    depth[pixels[kept]] = seen.depth.ravel()[pixels[kept]]


def draw_extras(canvas: Canvas, depth: np.ndarray) -> Callable[[], None]:
    """Draws hair masses and hood; the returned call draws the glasses, over the painted face."""
    look = canvas.look
    parts = _extras(look)
    if not parts:
        return lambda: None
    layer = build_layer([(kind, part, part.rest, part.triangles) for kind, part in parts], canvas.motion)
    seen = see(layer, canvas)
    nearer = seen.depth < depth.reshape(seen.depth.shape)
    pixels, canonical, _, normal = pick(layer, seen, HAIR, where=nearer)
    _draw_mass(pixels, canonical, normal, canvas)
    pixels, canonical, _, normal = pick(layer, seen, CLOTH, where=nearer)
    color = paint.cloth_color(canonical, look)
    shade = 0.45 + 0.55 * smoothstep(0.25, 0.75, np.hypot(canonical[:, 0], canonical[:, 2] + 0.2))
    canvas.put(pixels, color * canvas.shine(toward_viewer(normal)) * shade[:, None], "clothes")

    def glasses() -> None:
        pixels, _, _, normal = pick(layer, seen, FRAME, where=nearer)
        normal = toward_viewer(normal)
        base = np.array(_FRAME_COLORS[look.seed % 3], np.float32)
        canvas.put(pixels, base * canvas.shine(normal) + 0.5 * canvas.gloss(normal, 30.0)[:, None], "glasses")

    return glasses


@lru_cache(maxsize=64)
def _extras(look: Look) -> tuple:
    return tuple(extra_surfaces(look))


def _draw_mass(pixels, canonical, normal, canvas: Canvas) -> None:
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
