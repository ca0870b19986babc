"""Draws the head itself: skin, beard, lips, brows, eyes, the inside of the mouth and the ears."""

import numpy as np

from svp_jax.capture.synthetic import paint
from svp_jax.capture.synthetic.canvas import EAR, HEAD, MOUTH, Canvas, Layer, pick, toward_viewer
from svp_jax.capture.synthetic.hair import hairline
from svp_jax.capture.synthetic.looks import HAIR_COLORS, Look
from svp_jax.capture.synthetic.mesh import (
    EYE,
    EYE_DEPTH,
    JAW_HINGE,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    shaped,
    smoothstep,
)
from svp_jax.capture.synthetic.motion import Motion
from svp_jax.face.labels import LABEL_INDEX
from svp_jax.face.rasterizer import Fragments


def draw_head(layer: Layer, seen: Fragments, bare: np.ndarray, canvas: Canvas) -> None:
    """Paints skin, beard, lips, brows and eyes where `bare`, bool [side,side]: not behind hair or hood."""
    look = canvas.look
    pixels, canonical, position, normal = pick(layer, seen, HEAD, where=bare)
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


def _paint_beard(front, canonical, color, shade, label, gloss, canvas: Canvas) -> None:
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


def gaze(motion: Motion, side: int) -> np.ndarray:
    """Unit gaze in head space; the eyes converge a little."""
    x, y = np.deg2rad([motion.gaze_x - side * 2.0, motion.gaze_y])
    return np.array([np.sin(x) * np.cos(y), np.sin(y), np.cos(x) * np.cos(y)], np.float32)


def _paint_eyes(pixels, canonical, position, normal, canvas: Canvas) -> None:
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
        crease = np.exp(-0.5 * ((v - rest_upper - 0.042 + 0.012 * blink) / 0.0075) ** 2) * smoothstep(
            1.25, 0.7, np.abs(u)
        )
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
        aim = gaze(motion, side)
        cosine = ball @ aim
        across = ball - cosine[:, None] * aim
        radius = np.sqrt((across**2).sum(1)) / paint.IRIS_SINE + (cosine < 0) * 9
        color = np.broadcast_to(np.array([0.66, 0.63, 0.61], np.float32), ball.shape).copy()
        color *= (1 - np.outer(0.30 * smoothstep(0.6, 1.0, np.abs(u)), [0.35, 1, 1])).astype(np.float32)
        disc = smoothstep(1.04, 0.96, radius)
        paint.mix(
            color,
            paint.iris_color(np.minimum(radius, 1.2), np.arctan2(across[:, 1], across[:, 0]), look),
            disc,
        )
        shadow = 0.50 + 0.50 * smoothstep(0.0, 0.05, -above)
        shadow *= 0.80 + 0.20 * smoothstep(0.0, 0.02, -below)
        shadow *= 1 - 0.25 * smoothstep(0.75, 1.0, np.abs(u))
        view = np.clip(ball @ key, 0, 1) * 0.5 + 0.62
        color *= (view * shadow * (0.55 + 0.45 * canvas.scene.strength))[:, None]
        glint = (0.75 * half + 0.25 * aim) / np.linalg.norm(0.75 * half + 0.25 * aim)
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


def draw_mouth(layer: Layer, seen: Fragments, bare: np.ndarray, canvas: Canvas) -> None:
    """Paints teeth, tongue and the dark between open lips where `bare`, as for `draw_head`."""
    pixels, canonical, position, _ = pick(layer, seen, MOUTH, where=bare)
    if not len(pixels):
        return
    plane = 0.74
    sight = (np.array([0.0, 0.0, -1.0]) @ canvas.turn).astype(np.float32)
    reach = (plane - 0.5 * position[:, 0] ** 2 - position[:, 2]) / min(sight[2], -0.3)
    point = position + reach[:, None] * sight
    low = _jaw_point(canvas.motion, np.array([0.0, MOUTH_Y - 0.02, plane]))
    color = paint.mouth_interior(point.astype(np.float32), low, MOUTH_Y - 0.042)
    # The lips throw a shadow on what is behind them.
    opening = 0.30 + 0.70 * smoothstep(1.0, 0.55, np.abs(canonical[:, 0]) / MOUTH_HALF_WIDTH)
    below_lip = smoothstep(0.02, -0.05, point[:, 1] - (MOUTH_Y + 0.035))
    shade = (0.55 + 0.45 * below_lip) * opening * (0.60 + 0.35 * canvas.scene.strength)
    canvas.put(pixels, color * shade[:, None], "inner_mouth")


def draw_ears(layer: Layer, seen: Fragments, bare: np.ndarray, canvas: Canvas) -> None:
    """Paints the ears, if the layer has any, where `bare`, as for `draw_head`."""
    pixels, canonical, _, normal = pick(layer, seen, EAR, where=bare)
    rim = canonical[:, 2]
    place = np.stack([canonical[:, 0], canonical[:, 1], np.full(len(rim), -0.1, np.float32)], 1)
    color = paint.skin_color(place, canvas.look) * np.array([1.0, 0.88, 0.86], np.float32)
    shade = 0.62 + 0.38 * smoothstep(0.45, 0.85, rim)
    normal = toward_viewer(normal)
    canvas.put(pixels, color * canvas.shine(normal, (0.5, 0.28, 0.2)) * shade[:, None], "skin")
