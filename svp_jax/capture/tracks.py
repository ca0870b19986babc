"""The first pass over a video: whose face is where in every frame."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from svp_jax.capture.crop import BlackBars
from svp_jax.capture.video import Video
from svp_jax.errors import UserError
from svp_jax.face.smoothing import MotionMeter, find_shots
from svp_jax.face.tracking import BLENDSHAPES, LANDMARKS, PersonFollower, face_tracker


@dataclass
class Tracks:
    """What is known about N source frames; rows without a face are not a number, where nothing else is said.

    Attributes:
        times: presentation times in seconds, [N].
        landmarks: [N, 478, 3] in pixels of the source. blendshapes: [N, 52], 0 without a face. pose: [N, 4, 4].
        motion: [N, 478, 2], see `MotionMeter.motion`. cut: bool [N].
        sharpness: [N], see `sharpness`, 0 without a face.
        shot: int32 [N], see `find_shots`.
        window: left, top, right, bottom of the picture without black bars.
    """

    times: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray
    motion: np.ndarray
    cut: np.ndarray
    sharpness: np.ndarray
    shot: np.ndarray
    blendshape_names: list[str]
    frames_with_others: int
    window: tuple[int, int, int, int]


def track(source: Video, start: float, stop: float, model: Path | None) -> Tracks:
    """The first pass: finds the same person's face in every frame between two times in seconds.

    Args:
        model: path of face_landmarker.task, None to look for it.

    Raises:
        UserError: there is no frame, or no face in any.
    """
    rows: dict[str, list] = {name: [] for name in ("times", "landmarks", "blendshapes", "pose", "motion")}
    cuts, sharp = [], []
    meter, follower = MotionMeter(), PersonFollower(source.width, source.height)
    bars = BlackBars(source.height, source.width)
    unknown = np.full((LANDMARKS, 2), np.nan, np.float32)
    with face_tracker(model) as tracker:
        for time, image in progress("tracking", source.frames(start, stop), source.expected(start, stop)):
            cut = meter.cut(image)
            face = follower.pick(tracker.detect(image, time), cut)
            motion = meter.motion(image, None if face is None else face.landmarks)
            if face is not None:
                bars.add(image)
            rows["times"].append(time)
            rows["motion"].append(unknown if motion is None else motion)
            rows["landmarks"].append(np.full((LANDMARKS, 3), np.nan) if face is None else face.landmarks)
            rows["blendshapes"].append(np.zeros(BLENDSHAPES) if face is None else face.blendshapes)
            rows["pose"].append(np.full((4, 4), np.nan) if face is None else face.pose)
            cuts.append(cut)
            sharp.append(0.0 if face is None else sharpness(image, face.box))
        names = tracker.blendshape_names
    if not cuts:
        raise UserError(f"{source.path}: no frame from --start {start} to {stop} s; the video ends before")
    arrays = {name: np.array(values, np.float64 if name == "times" else np.float32) for name, values in rows.items()}
    if not np.isfinite(arrays["landmarks"]).any():
        raise UserError(
            f"{source.path}: no face in any of its {len(cuts)} frames; "
            "give a video that shows one person's face from the front"
        )
    return Tracks(
        **arrays,
        cut=np.array(cuts),
        sharpness=np.array(sharp),
        shot=find_shots(arrays["landmarks"], np.array(cuts)),
        blendshape_names=names,
        frames_with_others=follower.frames_with_others,
        window=bars.window(),
    )


def sharpness(image: np.ndarray, box: np.ndarray) -> float:
    """Variance of the Laplacian over a face, comparable between frames of one clip.

    Args:
        image: uint8 [H, W, 3].
        box: [4], left, top, right, bottom of the face in pixels.
    """
    left, top, right, bottom = np.maximum(box, 0).astype(int)
    face = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    if face.size == 0:
        return 0.0
    gray = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (128, 128), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var())


def progress(name: str, items, total: int):
    """`items` behind a bar with the time left; no bar where nobody watches, as in tests and log files."""
    return tqdm(items, name, total or None, unit="frame", disable=None, leave=False)
