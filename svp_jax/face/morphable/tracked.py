"""A face model fitted to a tracked clip, and how well it fits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.canonical_mesh import canonical_face
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.embedding import Embedding, at_vertices
from svp_jax.face.morphable.fitting import fit
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.multi_pie import COUNT, FROM_MEDIAPIPE, INNER, IRISES, LIDS, eye_distance, points_of
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.morphable.registration import mediapipe_embedding
from svp_jax.face.smoothing import jitter

# No video tells its focal length. Twice the longer side is a field of view of 28 degrees, a portrait's; fits with half
# and twice as much reproject as well.
FOCAL = 2.0
_RING, _IRIS = 0.35, 5.0  # Importance of landmarks around the face, and of the two that alone tell the gaze.
_SPARSE = 2.0  # Factor on the importance of landmarks without near neighbours.
# MediaPipe's landmarks that are fitted: contours, where an error is seen.
_FITTED = np.array(
    sorted(
        {*FROM_MEDIAPIPE, *mesh.FACE_OVAL, *mesh.RIGHT_EYE, *mesh.LEFT_EYE, *mesh.RIGHT_BROW, *mesh.LEFT_BROW}
        | {*mesh.NOSE, *mesh.UPPER_LIP, *mesh.LOWER_LIP}
    )
)


def video_camera(width: int, height: int, left: float, top: float, scale: float) -> Camera:
    """The camera of a crop of a video of `width` x `height` pixels, moved by (left, top) and scaled."""
    centre = np.array([(width / 2 - left) * scale, (height / 2 - top) * scale], np.float32)
    return Camera(np.float32(FOCAL * max(width, height) * scale), centre)


def landmark_embedding(model: FaceModel, count: int, landmarker: Path | None) -> Embedding:
    """Where a tracker's `count` landmarks lie on `model`.

    Args:
        landmarker: face_landmarker.task, needed for MediaPipe's 478 on a model of another topology.
    """
    if model.name == "mediapipe":
        return at_vertices(np.arange(count))
    return model.landmarks if count == COUNT else mediapipe_embedding(model, canonical_face(landmarker))


def fit_tracking(
    model: FaceModel,
    embedding: Embedding,
    landmarks: np.ndarray,
    scores: np.ndarray,
    names: tuple[str, ...],
    shot: np.ndarray,
    camera: Camera,
) -> FaceParameters:
    """The model's parameters in all N frames; see `fitting.fit`.

    Args:
        embedding: of the landmarks on the model.
        landmarks: [N, L, 3] in pixels of the camera's picture, MediaPipe's 478 or the 70 of `multi_pie`.
        scores: [N, S], the tracker's blendshape scores. names: [S].
        shot: int [N], -1 without a face.
    """
    sparse = landmarks.shape[1] == COUNT
    fitted = np.arange(COUNT) if sparse else _FITTED
    every = np.arange(COUNT) if sparse else np.array(FROM_MEDIAPIPE)
    importance = np.full(landmarks.shape[1], _RING)
    importance[every[INNER]] = 1.0
    importance[every[IRISES]] = _IRIS
    if sparse:
        importance *= _SPARSE
    columns = matching_channels(model.channels, names)
    known = columns >= 0
    targets = np.where(known, scores[:, np.maximum(columns, 0)], 0) if len(names) else np.zeros((len(shot), len(known)))
    usable = shot >= 0
    unit = np.median(eye_distance(points_of(landmarks[usable])))
    return fit(
        model,
        embedding.taken(fitted),
        importance[fitted],
        np.searchsorted(fitted, every[LIDS]),
        landmarks[:, fitted],
        targets,
        known.astype(np.float32),
        camera,
        unit,
        shot,
    )


def matching_channels(channels: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """For each of `channels` the position of its like in `names`, int [E], -1 for none.

    A channel of one side takes the score of both where the tracker has no sides (browInnerUpLeft and browInnerUp), and
    one without sides the left one's.
    """
    place = {name: index for index, name in enumerate(names)}

    def find(channel: str) -> int:
        both = channel.removesuffix("Left").removesuffix("Right")
        return next((place[name] for name in (channel, both, f"{channel}Left") if name in place), -1)

    return np.array([find(channel) for channel in channels], int)


@dataclass(frozen=True)
class FitReport:
    """How well a fit agrees with the landmarks it was fitted to; errors in parts of the eyes' distance.

    Attributes:
        error: mean distance over the inner face's landmarks and all frames. worst_frame: largest mean of a frame.
        jitter_tracked, jitter_fitted: see `smoothing.jitter`, in pixels, of the inner face.
    """

    error: float
    worst_frame: float
    jitter_tracked: float
    jitter_fitted: float


def fit_report(
    model: FaceModel,
    parameters: FaceParameters,
    embedding: Embedding,
    landmarks: np.ndarray,
    raw: np.ndarray,
    shot: np.ndarray,
    camera: Camera,
) -> FitReport:
    """Compares the 51 points of eyes, brows, nose and lips, projected, with the tracked ones.

    Args:
        landmarks: [N, L, 3] as fitted. raw: the same before they were smoothed in time, for the jitter.
    """
    inner = points_of(landmarks)[:, INNER]
    places = embedding.taken(np.arange(COUNT) if len(embedding) == COUNT else np.array(FROM_MEDIAPIPE))
    projected = np.asarray(camera.project(model.restricted(places).vertices(parameters)))[:, INNER]
    usable = shot >= 0
    distance = np.linalg.norm(projected[usable, :, :2] - inner[usable, :, :2], axis=-1)
    error = distance.mean(axis=1) / eye_distance(points_of(landmarks[usable]))
    return FitReport(
        error=float(error.mean()),
        worst_frame=float(error.max()),
        jitter_tracked=jitter(points_of(raw)[:, INNER], shot),
        jitter_fitted=jitter(projected, shot),
    )
