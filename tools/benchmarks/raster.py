"""The rasterizer: pictures of normals a second."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from svp_jax.face import mediapipe_mesh
from svp_jax.face.perspective import render_normals_perspective
from svp_jax.face.rasterizer import render_normals


def benchmark_rasterizer(ict_model: Path | None, repeats: int) -> None:
    """Pictures of normals a second, 512 x 512: one after the other, and two threads side by side."""
    print("mesh                                triangles  one thread  two threads")
    face, triangles = _face()
    _rate("MediaPipe's face", len(triangles), repeats, lambda: render_normals(face, triangles, 512, 512))
    # The same picture by a camera: 512 pixels of focal length, 512 units away.
    camera = (512.0, np.array([256.0, 256.0]), 512, 512)
    points = (face - [256, 256, -512]) * [1, -1, -1]
    _rate(
        "MediaPipe's face, perspective",
        len(triangles),
        repeats,
        lambda: render_normals_perspective(points, triangles, *camera),
    )
    if ict_model is None:
        return
    with np.load(ict_model) as model:
        head, triangles = model["neutral"].astype(np.float64), model["faces"]
    # In the middle of the picture, 60 cm away: 34 cm from crown to chest are 490 pixels.
    head = head - (head.min(0) + head.max(0)) / 2 - [0, 0, 60]
    camera = (850.0, np.array([256.0, 256.0]), 512, 512)
    for cull, name in ((True, "ICT head, far sides left out"), (False, "ICT head, both sides")):
        _rate(
            name,
            len(triangles),
            repeats,
            lambda cull=cull: render_normals_perspective(head, triangles, *camera, cull=cull),
        )


def _face() -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe's mesh as large as a tracked face: (vertices [480, 3] in pixels, triangles).

    Made without a picture: the outline is an ellipse, and every other vertex lies amid its neighbours.
    """
    triangles = mediapipe_mesh.triangles()
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    links = np.zeros((480, 480))
    links[edges[:, 0], edges[:, 1]] = links[edges[:, 1], edges[:, 0]] = 1
    balance = np.diag(np.maximum(links.sum(1), 1)) - links
    outline = np.array(mediapipe_mesh.FACE_OVAL)
    balance[outline] = np.eye(480)[outline]
    places = np.zeros((480, 2))
    angle = np.linspace(0, 2 * np.pi, len(outline), endpoint=False)
    places[outline] = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    places = np.linalg.solve(balance, places)
    depth = 80 * (places**2).sum(1, keepdims=True)
    return np.concatenate([256 + places * [115, 140], depth], axis=1), triangles


def _rate(name: str, triangles: int, repeats: int, draw: Callable) -> None:
    rates = []
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:
            best = float("inf")
            for _ in range(repeats):
                start = time.perf_counter()
                list(pool.map(lambda _: draw(), range(60)))
                best = min(best, time.perf_counter() - start)
        rates.append(60 / best)
    print(f"{name:<36}{triangles:>9}{rates[0]:>10.0f}/s{rates[1]:>11.0f}/s", flush=True)
