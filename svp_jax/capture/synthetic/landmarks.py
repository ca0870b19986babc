"""Landmarks of the synthetic head: fixed places on its surface, where the camera sees them."""

from functools import lru_cache

import numpy as np

from svp_jax.capture.synthetic import paint
from svp_jax.capture.synthetic.canvas import Canvas, project
from svp_jax.capture.synthetic.face import eye_centres, gaze
from svp_jax.capture.synthetic.looks import Look
from svp_jax.capture.synthetic.mesh import (
    EYE,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    express,
    features,
    head_surface,
    pose,
    shaped,
)
from svp_jax.face.rasterizer import rasterize


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


def landmarks(canvas: Canvas) -> np.ndarray:
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
    groups += [
        np.stack([inner, 0 * inner + MOUTH_Y], 1),
        np.stack([inner[-2:0:-1], 0 * inner[1:-1] + MOUTH_Y], 1),
    ]
    sides += [np.ones(7), -np.ones(5), np.ones(5), -np.ones(3)]
    flat, side = np.concatenate(groups), np.concatenate(sides)
    depths, scale = _depth_map()
    column = np.clip(((flat[:, 0] + 1.2) * scale).astype(int), 0, 511)
    row = np.clip(((1.2 - flat[:, 1]) * scale).astype(int), 0, 511)
    z = np.where(np.isfinite(depths[row, column]), depths[row, column], 0.0)
    canonical = np.concatenate([flat, z[:, None]], 1)
    moved = express(shaped(features(canonical, look), look), canonical, motion, side)
    irises = eye_centres(look) + 0.155 * np.stack([gaze(motion, -1), gaze(motion, 1)])
    every = np.concatenate([moved, irises])
    posed = pose(every, np.ones(len(every)), motion)
    return project(posed, canvas.scene, canvas.size).astype(np.float32)
