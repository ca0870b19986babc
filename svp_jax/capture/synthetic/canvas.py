"""The picture in the making: camera, light, posed meshes and what is seen of them at each sample."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from svp_jax.capture.synthetic import paint
from svp_jax.capture.synthetic.hair import COVERS_EARS
from svp_jax.capture.synthetic.looks import Look, Scene
from svp_jax.capture.synthetic.mesh import (
    Surface,
    body_surface,
    ear_surface,
    express,
    head_surface,
    lip_side,
    mouth_triangles,
    pose,
    rotation,
)
from svp_jax.capture.synthetic.motion import Motion
from svp_jax.face.labels import LABEL_INDEX
from svp_jax.face.rasterizer import Fragments, faces_viewer, gather, rasterize, vertex_normals

_CAMERA = 7.0  # head units from the origin
_UNIT = 0.375  # of the picture's width, at the origin: heads are as large as prepare's crop makes them
_ORIGIN = (0.5, 0.49)
HEAD, MOUTH, EAR, BODY = range(4)


@dataclass(frozen=True)
class Layer:
    """A posed mesh. attributes [V,9]: canonical place, position before the pose, normal in view space."""

    screen: np.ndarray
    attributes: np.ndarray
    triangles: np.ndarray
    material: np.ndarray  # [T]


class Canvas:
    """The picture in the making, at `side` x `side` samples, flat: light [n,3], labels [n], iris [n,3].

    Light is linear RGB, about 0..1; labels are indices into `LABELS`; iris is 0..1.
    """

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
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)],
            np.float32,
        )
        between = self.key + np.array([0, 0, 1], np.float32)
        self.half = between / np.linalg.norm(between)
        self.tint = scene.strength * np.array([1 + 0.10 * scene.warmth, 1, 1 - 0.14 * scene.warmth], np.float32)

    def put(self, pixels: np.ndarray, color: np.ndarray, label: str) -> None:
        """Sets the samples with flat indices int [n] to linear RGB [n,3] and a label's name."""
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


def project(points: np.ndarray, scene: Scene, size: float) -> np.ndarray:
    """Posed points [V,3] to pixels of a picture `size` wide: x right, y down, depth (small is near)."""
    scale = size * _UNIT * scene.scale
    flat = points[:, :2] * [scale, -scale] * _nearer(points) + np.array(_ORIGIN) * size
    return np.concatenate([flat, -scale * points[:, 2:]], 1)


def pinhole(scene: Scene, size: float) -> tuple[float, tuple[float, float]]:
    """The camera of `project`: focal length and where its axis meets the picture, in pixels."""
    return size * _UNIT * scene.scale * _CAMERA, (_ORIGIN[0] * size, _ORIGIN[1] * size)


def _nearer(points: np.ndarray) -> np.ndarray:
    """How much larger the camera sees what lies at posed points [V,3] than at the origin, [V,1]."""
    return _CAMERA / (_CAMERA - points[:, 2:])


def build_layer(parts: list[tuple[int, Surface, np.ndarray, np.ndarray]], motion: Motion) -> Layer:
    """Joins posed parts, each (material, surface, positions before the pose [V,3], triangles [T,3])."""
    attributes, triangles, material, screen, first = [], [], [], [], 0
    for kind, surface, position, drawn in parts:
        posed = pose(position, surface.head, motion)
        normals = _normals(posed, surface)
        attributes.append(np.concatenate([surface.canonical, position, normals], 1))
        if surface.closed:
            # As the camera sees it, y down.
            drawn = drawn[faces_viewer(posed[:, :2] * [1, -1] * _nearer(posed), drawn)]
        triangles.append(drawn + first)
        material.append(np.full(len(drawn), kind, np.int8))
        screen.append(posed)
        first += len(posed)
    return Layer(*(np.concatenate(x) for x in (screen, attributes, triangles, material)))


def _normals(points: np.ndarray, surface: Surface) -> np.ndarray:
    if surface.weld is None:
        return vertex_normals(points, surface.triangles)
    return vertex_normals(points, surface.weld[surface.triangles])[surface.weld]


def solid_layer(look: Look, motion: Motion) -> Layer:
    """Head with moving face, neck and body, the mouth's opening, and the ears where hair does not cover them."""
    head, body = head_surface(look), body_surface(look)
    moved = express(head.rest, head.canonical, motion, lip_side())
    parts = [(HEAD, head, moved, head.triangles), (BODY, body, body.rest, body.triangles)]
    if look.hair_style not in COVERS_EARS:
        ears = _ears(look)
        parts.append((EAR, ears, ears.rest, ears.triangles))
    layer = build_layer(parts, motion)
    inside = mouth_triangles()
    return Layer(
        layer.screen,
        layer.attributes,
        np.concatenate([layer.triangles, inside]),
        np.concatenate([layer.material, np.full(len(inside), MOUTH, np.int8)]),
    )


@lru_cache(maxsize=64)
def _ears(look: Look) -> Surface:
    return ear_surface(look)


def see(layer: Layer, canvas: Canvas) -> Fragments:
    """What of the layer is nearest at each of the canvas's samples, [side,side]; depth in samples."""
    screen = project(layer.screen, canvas.scene, canvas.side)
    return rasterize(screen, layer.triangles, canvas.side, canvas.side)


def pick(layer: Layer, seen: Fragments, *materials: int, where: np.ndarray | None = None):
    """(flat pixels, canonical [n,3], head-space position [n,3], unit normal [n,3]) of the given materials."""
    chosen = np.isin(layer.material, materials)[seen.triangle] & (seen.triangle >= 0)
    if where is not None:
        chosen &= where
    pixels, values = gather(seen, layer.attributes, layer.triangles, chosen)
    return pixels, values[:, :3], values[:, 3:6], unit(values[:, 6:9])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n,3] at length 1, float32; those shorter than 1e-6 stay short."""
    x, y, z = vectors.T
    length = np.sqrt(x * x + y * y + z * z)
    return (vectors / np.maximum(length, 1e-6)[:, None]).astype(np.float32, copy=False)


def toward_viewer(normal: np.ndarray) -> np.ndarray:
    """Normals [n,3] in view space, those that face away reversed; for thin parts that are seen from both sides."""
    return np.where(normal[:, 2:] < 0, -normal, normal)


def quantize(picture: np.ndarray) -> np.ndarray:
    """A picture of numbers in 0..255 as uint8, rounded."""
    return np.rint(picture).astype(np.uint8)


def shrink(samples: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Means over the samples of each pixel: [S,S,C]."""
    k = canvas.supersample
    grid = samples.reshape(canvas.size, k, canvas.size, k, -1)
    total = sum(grid[:, row, :, column] for row in range(k) for column in range(k))
    return total * np.float32(1 / (k * k))
