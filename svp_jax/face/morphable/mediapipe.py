"""A face model of one person, made of its own capture: MediaPipe's mesh, moved by MediaPipe's 52 blendshape scores.

The tracked meshes are laid over each other (pose-free), and the mean face and what each score adds to it are found by
ridge regression: mesh = mean + sum_c score_c basis_c. Needs no file, and knows only what the clip shows: a channel that
never moved in it has a basis near 0 (`seen` tells). The length unit is the distance between the outer corners of the
eyes.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np

from svp_jax.face.mediapipe_mesh import triangles as mesh_triangles
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.embedding import Embedding, at_vertices
from svp_jax.face.morphable.eyeballs import posed
from svp_jax.face.morphable.model import PART_INDEX
from svp_jax.face.morphable.multi_pie import COUNT, FROM_MEDIAPIPE
from svp_jax.face.morphable.parameters import FaceParameters

# Among the Multi-PIE points, those that expressions hardly move: corners of the eyes, bridge and root of the nose.
_RIGID = (36, 39, 42, 45, 27, 28, 29, 30, 31, 35)
_RIDGE = 1e-3  # Of the summed squares of the most active channel.
_EYEBALL = 0.135  # Radius in our unit: 1.2 cm, where the outer corners are 8.9 cm apart.
_ROUNDS = 4
_CHUNK = 256  # Frames.


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "basis", "turned_by", "eye_centre", "seen", "landmarks"],
    meta_fields=["channels", "limits", "name"],
)
@dataclass(frozen=True)
class MediaPipeFace:
    """See `FaceModel`; there is no identity, since the person is in the mean.

    Attributes:
        mean: float32 [V, 3]. basis: float32 [E, V, 3].
        turned_by: int8 [V], 0 right iris, 1 left iris, 2 the head alone. eye_centre: float32 [2, 3].
        seen: float32 [E], the highest score of each channel in the clip.
    """

    mean: jax.Array
    basis: jax.Array
    turned_by: jax.Array
    eye_centre: jax.Array
    seen: np.ndarray
    landmarks: Embedding
    channels: tuple[str, ...]
    limits: tuple[float, float] = (0.0, 1.0)
    name: str = "mediapipe"

    @property
    def identity_size(self) -> int:
        return 0

    @property
    def triangles(self) -> np.ndarray:
        """int32 [T, 3], of MediaPipe's 478 landmarks; the 70 of `multi_pie` have none."""
        return mesh_triangles() if len(self.mean) != COUNT else np.zeros((0, 3), np.int32)

    @property
    def parts(self) -> np.ndarray:
        """uint8 [T]: all skin; the irises lie behind it as landmarks."""
        return np.full(len(self.triangles), PART_INDEX["skin"], np.uint8)

    def vertices(self, parameters: FaceParameters) -> jax.Array:
        """[B, V, 3] in the camera's space: the landmarks. `identity`, `jaw` and `neck` have no effect."""
        shaped = self.mean + rotation.tensordot(parameters.expression, self.basis)
        return posed(shaped, self.turned_by, self.eye_centre, parameters)

    def restricted(self, points: Embedding) -> "MediaPipeFace":
        """`points` alone; see `FaceModel`."""
        return replace(
            self,
            mean=points.points(self.mean),
            basis=points.points(self.basis),
            turned_by=points.common(self.turned_by),
            landmarks=at_vertices(np.zeros(0, np.int32)),
        )


def build_mediapipe(landmarks: np.ndarray, scores: np.ndarray, names: tuple[str, ...]) -> MediaPipeFace:
    """The model of the person in a clip.

    Args:
        landmarks: [N, L, 3] of all frames with a face, in pixels (small depth near): MediaPipe's 478, or the 70 of
            `multi_pie`.
        scores: [N, E] in 0..1. names: of the E channels.
    """
    places = np.array(FROM_MEDIAPIPE if landmarks.shape[1] != COUNT else range(COUNT))
    # MediaPipe's first score, _neutral, is no expression.
    kept = [index for index, name in enumerate(names) if not name.startswith("_")]
    scores = scores[:, kept].astype(np.float64)
    mean, basis = _regressed(landmarks, _upright(_poses(landmarks, places), landmarks, places), scores)
    turned_by = np.full(len(mean), 2, np.int8)
    centres = []
    for side, (iris, corners) in enumerate(((68, (36, 39)), (69, (42, 45)))):
        # MediaPipe has five points of each iris, in a row.
        points = places[iris] + np.arange(5 if landmarks.shape[1] != COUNT else 1)
        turned_by[points] = side
        # Gaze turns the iris, not the channels: their scores of gaze move the lids alone.
        basis[:, points] = 0
        socket = mean[places[list(corners)]].mean(axis=0)
        centre = np.array([socket[0], socket[1], mean[points[0], 2] - _EYEBALL])
        mean[points] += centre + np.array([0, 0, _EYEBALL]) - mean[points[0]]
        centres.append(centre)
    return MediaPipeFace(
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float32),
        turned_by=turned_by,
        eye_centre=np.stack(centres).astype(np.float32),
        seen=scores.max(axis=0).astype(np.float32),
        landmarks=at_vertices(places),
        channels=tuple(names[index] for index in kept),
    )


@dataclass(frozen=True)
class _Poses:
    """Where heads are in N frames: what makes meshes pose-free.

    Attributes:
        turn: [N, 3, 3], from the picture's axes (y up, z to the viewer) to the head's. middle: [N, 3]. size: [N].
        origin: [3], of the pose-free meshes.
    """

    turn: np.ndarray
    middle: np.ndarray
    size: np.ndarray
    origin: np.ndarray

    def free(self, landmarks: np.ndarray, frames: slice = slice(None)) -> np.ndarray:
        """Landmarks [n, L, 3] of these frames, in pixels, moved, turned and scaled onto each other: float64."""
        centred = landmarks * [1.0, -1.0, -1.0] - self.middle[frames, None]
        return np.einsum("nij,nli->nlj", self.turn[frames], centred) / self.size[frames, None, None] - self.origin


def _poses(landmarks: np.ndarray, places: np.ndarray) -> _Poses:
    """Lays the frames' rigid points onto each other (generalised Procrustes analysis, Gower 1975)."""
    rigid = landmarks[:, places[list(_RIGID)]] * [1.0, -1.0, -1.0]
    middle = rigid.mean(axis=1)
    centred = rigid - middle[:, None]
    target = centred[0]
    for _ in range(_ROUNDS):
        left, scales, right = np.linalg.svd(np.einsum("nli,lj->nij", centred, target))
        sign = np.ones((len(rigid), 3))
        sign[:, 2] = np.sign(np.linalg.det(left @ right))
        turn = (left * sign[:, None]) @ right
        size = (scales * sign).sum(axis=1) / (target**2).sum()
        target = (np.einsum("nij,nli->nlj", turn, centred) / size[:, None, None]).mean(axis=0)
    return _Poses(turn, middle, size, np.zeros(3))


def _upright(poses: _Poses, landmarks: np.ndarray, places: np.ndarray) -> _Poses:
    """The same turned to look ahead, as far as eyes and mouth tell, in units of the distance between the eyes."""
    points = poses.free(landmarks[:, places[[36, 45, 48, 54]]]).mean(axis=0)
    across = points[1] - points[0]
    unit = np.linalg.norm(across)
    x = across / unit
    up = (points[0] + points[1]) / 2 - (points[2] + points[3]) / 2
    y = up - (up @ x) * x
    y /= np.linalg.norm(y)
    axes = np.stack([x, y, np.cross(x, y)])
    return _Poses(poses.turn @ axes.T, poses.middle, poses.size * unit, points[:2].mean(axis=0) @ axes.T / unit)


def _regressed(landmarks: np.ndarray, poses: _Poses, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean [L, 3] at scores 0, basis [E, L, 3]) by ridge regression of pose-free meshes on scores [N, E]."""
    count, size = landmarks.shape[:2]
    centre = scores.mean(axis=0)
    moved = scores - centre
    gram = moved.T @ moved
    ridge = _RIDGE * max(gram.diagonal().max(initial=0), 1e-9) * np.eye(len(gram))
    total, along = np.zeros((size, 3)), np.zeros((len(gram), size * 3))
    # In parts, so that long clips need little memory.
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        meshes = poses.free(landmarks[part], part)
        total += meshes.sum(axis=0)
        along += moved[part].T @ meshes.reshape(len(meshes), -1)
    basis = np.linalg.solve(gram + ridge, along).reshape(-1, size, 3)
    return total / count - np.tensordot(centre, basis, 1), basis
