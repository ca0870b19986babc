"""Fits the face model that the user chose to the tracking of a clip, or takes what another tracker found."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.face_track import FaceTrack
from svp_jax.errors import UserError
from svp_jax.face.canonical_mesh import canonical_face
from svp_jax.face.importers.imported import Imported
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.mediapipe import build_mediapipe
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters, check_finite
from svp_jax.face.morphable.tracked import fit_report, fit_tracking, landmark_embedding
from svp_jax.face.smoothing import nearest_known

# Half the way between two frames of a tool, and a little, since files round times to milliseconds.
_NEAR = 0.55
_BREAKS_DOWN = "the fit breaks down there: leave that part out with --start and --seconds, or choose another face model"


def check_face(model: FaceModel, landmarker: Path) -> None:
    """Raises UserError where `fit_face` would miss a file, so that it is known before a video is tracked."""
    _ = model.landmarks
    canonical_face(landmarker)


def check_pictures(imported: Imported, where: Path, width: int, height: int) -> None:
    """Raises UserError unless another tracker saw pictures of the video's `width` and `height`.

    Args:
        where: as messages name the tracker's output.
    """
    if tuple(imported.image_size) != (height, width):
        raise UserError(
            f"--face-parameters {where}: {imported.tool} saw pictures of {imported.image_size[1]} x "
            f"{imported.image_size[0]} pixels, the video has {width} x {height}; give the output for this video"
        )


def fit_face(
    model: FaceModel | None,
    found: tuple[FaceParameters, Camera] | None,
    landmarks: np.ndarray,
    raw: np.ndarray,
    scores: np.ndarray,
    names: tuple[str, ...],
    shot: np.ndarray,
    frame_rate: Fraction,
    camera: Camera,
    landmarker: Path | None,
) -> tuple[FaceModel, FaceTrack, dict]:
    """(model, its track over all N frames, numbers for the quality report).

    Args:
        model: None makes MediaPipe's mesh of this person.
        found: what another tracker found, taken as it is; None fits the model.
        landmarks: [N, L, 3], smoothed in time, in pixels of `camera`'s picture. raw: the same, not smoothed.
        scores: [N, S], blendshape scores of the tracker. names: [S].
        shot: int [N], -1 without a face. frame_rate: of the capture.
        landmarker: face_landmarker.task; see `landmark_embedding`.
    """
    usable = shot >= 0
    person = None
    if model is None:
        model = person = build_mediapipe(landmarks[usable], scores[usable], names)
    embedding = landmark_embedding(model, landmarks.shape[1], landmarker)
    if found is None:
        parameters = fit_tracking(model, embedding, landmarks, scores, names, shot, camera)
        check_finite(parameters, f"--face-model {model.name}", _BREAKS_DOWN)
    else:
        parameters, camera = found
    report = fit_report(model, parameters, embedding, landmarks, raw, shot, camera)
    numbers = {
        "fit_error_percent": round(100 * report.error, 2),
        "fit_worst_frame_percent": round(100 * report.worst_frame, 2),
        "fit_jitter_tracked": round(report.jitter_tracked, 3),
        "fit_jitter_fitted": round(report.jitter_fitted, 3),
    }
    return model, FaceTrack(model.name, parameters, camera, frame_rate, usable, person), numbers


def imported_face(
    imported: Imported, where: Path, times: np.ndarray, total: int, left: float, top: float, scale: float
) -> tuple[FaceParameters, Camera, list[str]]:
    """What another tracker found, over the N frames of a video that are used and in pixels of a crop of it; and notes.

    Frames that it has not take the nearest one's parameters, with a note that counts them.

    Args:
        where: as messages name the tracker's output.
        times: float64 [N], when the frames are shown, in seconds from the first frame of the video's file on.
        total: how many frames the whole video has.
        left, top, scale: of the crop.

    Raises:
        UserError: it was tracked in none of these frames.
    """
    places, notes = _places(imported, times, total)
    inside = np.flatnonzero(imported.frames < places[-1] + _NEAR)
    if not len(inside):
        raise UserError(
            f"--face-parameters {where}: holds none of the video's {len(times)} frames; give its own output"
        )
    nearest = inside[nearest_known(imported.frames[inside], places)]
    absent = int((np.abs(imported.frames[nearest] - places) > _NEAR).sum())
    if absent:
        notes.append(
            f"{absent} of the video's {len(times)} frames are not in it; they take the nearest frame's parameters"
        )
    centre = (np.asarray(imported.camera.centre) - [left, top]) * scale
    camera = Camera(np.float32(imported.camera.focal * scale), centre.astype(np.float32))
    return imported.parameters.frames(nearest), camera, [f"--face-parameters {where}: {text}" for text in notes]


def _places(imported: Imported, times: np.ndarray, total: int) -> tuple[np.ndarray, list[str]]:
    """(where each source frame lies in the tool's count of frames, float64 [N]; notes)."""
    every = np.arange(len(times), dtype=np.float64)
    if imported.frame_rate is None:
        return every, []
    by_time = times * float(imported.frame_rate)
    if abs(by_time[-1] - every[-1]) < 1:
        return by_time, []
    tool, rate = imported.tool, imported.frame_rate
    # No file tells the rate. But a run at the tool's own would not end at the number of the video's last frame.
    if imported.frames[-1] + 1 == total:
        return every, [f"has as many frames as the video, so {tool} took each of them, not its usual {rate} a second"]
    return by_time, [
        f"{tool}'s frames are taken as {rate} a second, its usual rate, which is not the video's; each frame takes the "
        "parameters nearest in time"
    ]
