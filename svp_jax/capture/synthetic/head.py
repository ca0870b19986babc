"""Draws the synthetic head: frame, labels, condition images and landmarks from look, motion and scene."""

from dataclasses import dataclass

import numpy as np

from svp_jax.capture.synthetic.canvas import HEAD, Canvas, Layer, pick, quantize, see, shrink, solid_layer
from svp_jax.capture.synthetic.dress import draw_body, draw_cap, draw_extras
from svp_jax.capture.synthetic.face import draw_ears, draw_head, draw_mouth
from svp_jax.capture.synthetic.landmarks import landmarks
from svp_jax.capture.synthetic.looks import Look, Scene
from svp_jax.capture.synthetic.mesh import EAR_Y
from svp_jax.capture.synthetic.motion import Motion
from svp_jax.face.labels import colorize
from svp_jax.face.rasterizer import Fragments, color_normals


@dataclass(frozen=True)
class HeadImage:
    """One rendered head, S x S.

    Attributes:
        frame: uint8 [S,S,3] RGB.
        labels: uint8 [S,S], indices into `svp_jax.face.labels.LABELS`.
        parsing: uint8 [S,S,3], the labels in palette colours.
        geometry: uint8 [S,S,3], coloured normals of face and skull, eye and mouth openings black.
        iris: uint8 [S,S,3], right iris, left iris, eye openings.
        landmarks: float32 [L,3], the points of `LANDMARKS` in pixels (depth small is near, in pixels too).
    """

    frame: np.ndarray
    labels: np.ndarray
    parsing: np.ndarray
    geometry: np.ndarray
    iris: np.ndarray
    landmarks: np.ndarray


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
    canvas = Canvas(look, motion, scene, size, supersample)
    solid = solid_layer(look, motion)
    seen = see(solid, canvas)
    # Hair first: what it hides need not be painted.
    depth = seen.depth.ravel().copy()
    draw_cap(canvas, depth)
    draw_glasses = draw_extras(canvas, depth)
    bare = (canvas.labels == 0).reshape(canvas.side, canvas.side)
    draw_head(solid, seen, bare, canvas)
    draw_mouth(solid, seen, bare, canvas)
    draw_ears(solid, seen, bare, canvas)
    draw_body(solid, seen, bare, canvas)
    geometry = _geometry(solid, seen, canvas)
    draw_glasses()
    labels = canvas.labels.reshape(canvas.side, canvas.side)[::supersample, ::supersample]
    return HeadImage(
        frame=quantize(np.sqrt(np.clip(shrink(canvas.light, canvas), 0, 1)) * 255),
        labels=np.ascontiguousarray(labels),
        parsing=colorize(labels),
        geometry=geometry,
        iris=quantize(shrink(canvas.iris, canvas) * 255),
        landmarks=landmarks(canvas),
    )


def _geometry(layer: Layer, seen: Fragments, canvas: Canvas) -> np.ndarray:
    """Coloured normals of face and skull as a morphable model knows them: no ears, hair, glasses or openings."""
    pixels, canonical, _, normal = pick(layer, seen, HEAD)
    shown = (canonical[:, 2] > 0.0) | (canonical[:, 1] > EAR_Y)
    shown &= canvas.iris[pixels, 2] == 0
    colors = np.zeros((canvas.side**2, 3), np.float32)
    colors[pixels[shown]] = color_normals(normal[shown])
    return quantize(shrink(colors, canvas))
