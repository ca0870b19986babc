"""Fits the face model that the user chose to the tracking of a clip."""

from pathlib import Path

import numpy as np

from svp_jax.capture.face_track import FaceTrack
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.mediapipe import build_mediapipe
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.tracked import fit_report, fit_tracking, landmark_embedding


def fit_face(
    model: FaceModel | None,
    landmarks: np.ndarray,
    raw: np.ndarray,
    scores: np.ndarray,
    names: tuple[str, ...],
    shot: np.ndarray,
    camera: Camera,
    landmarker: Path | None,
) -> tuple[FaceModel, FaceTrack, dict]:
    """(model, its parameters in all N frames, numbers for the quality report).

    Args:
        model: None makes MediaPipe's mesh of this person.
        landmarks: [N, L, 3], smoothed in time, in pixels of `camera`'s picture. raw: the same, not smoothed.
        scores: [N, S], blendshape scores of the tracker. names: [S].
        shot: int [N], -1 without a face.
        landmarker: face_landmarker.task; see `landmark_embedding`.
    """
    usable = shot >= 0
    person = None
    if model is None:
        model = person = build_mediapipe(landmarks[usable], scores[usable], names)
    embedding = landmark_embedding(model, landmarks.shape[1], landmarker)
    parameters = fit_tracking(model, embedding, landmarks, scores, names, shot, camera)
    report = fit_report(model, parameters, embedding, landmarks, raw, shot, camera)
    numbers = {
        "fit_error_percent": round(100 * report.error, 2),
        "fit_worst_frame_percent": round(100 * report.worst_frame, 2),
        "fit_jitter_tracked": round(report.jitter_tracked, 3),
        "fit_jitter_fitted": round(report.jitter_fitted, 3),
    }
    return model, FaceTrack(model.name, parameters, camera, person), numbers
