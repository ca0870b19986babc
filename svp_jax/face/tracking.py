"""Face tracking with MediaPipe's FaceLandmarker, and which of several faces is ours."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.without_log import without_log
from svp_jax.model_files import find_model

LANDMARKER = "face_landmarker.task"
LANDMARKS = 478
BLENDSHAPES = 52
# `enlarged` makes smaller pictures this large. At 128 pixels landmarks come out 2.4 % of the eye distance away from
# those of the video, enlarged 0.8 % (8 frames).
STILL_SIZE = 512


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    Attributes:
        landmarks: float32 [478, 3], x and y in pixels of the frame, depth in the same unit (small is near).
        blendshapes: float32 [52] in 0..1, in MediaPipe's order (`blendshape_names` of the tracker).
        pose: float32 [4, 4], from MediaPipe's canonical face (centimetres) to camera space.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """float [4]: left, top, right, bottom."""
        points = self.landmarks[:, :2]
        return np.concatenate([points.min(axis=0), points.max(axis=0)])


class FaceTracker:
    """Finds up to two faces in each frame of one video; see `face_tracker`."""

    def __init__(self, landmarker):
        self._landmarker = landmarker
        self._last_stamp = -1
        self.blendshape_names: list[str] = []

    def detect(self, image: np.ndarray, time: float) -> list[Face]:
        """The faces in `image` uint8 [H, W, 3] RGB shown at `time` seconds; times increase."""
        import mediapipe

        height, width = image.shape[:2]
        # The landmarker wants strictly increasing whole milliseconds.
        self._last_stamp = max(round(time * 1000), self._last_stamp + 1)
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._landmarker.detect_for_video(picture, self._last_stamp)
        faces = []
        parts = zip(result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes, strict=True)
        for points, shapes, matrix in parts:
            landmarks = _in_pixels(points, width, height)
            self.blendshape_names = [shape.category_name for shape in shapes]
            scores = np.array([shape.score for shape in shapes], np.float32)
            faces.append(Face(landmarks, scores, np.asarray(matrix, np.float32)))
        return faces


@contextlib.contextmanager
def face_tracker(model: Path | None = None) -> Iterator[FaceTracker]:
    """A tracker for one video; closed at the end, because MediaPipe complains when the interpreter has to.

    Args:
        model: path of face_landmarker.task; looked for in the model folders where it is None.

    Raises:
        UserError: the model file is missing or is not what it says.
    """
    from mediapipe.tasks.python.vision import RunningMode

    # Two faces, so that a second person is noticed. It also turns off MediaPipe's own smoothing, which lags.
    path = find_model(LANDMARKER, model, "--face-landmarker")
    with contextlib.closing(_landmarker(path, RunningMode.VIDEO, num_faces=2, shapes=True)) as landmarker:
        yield FaceTracker(landmarker)


def find_landmarks(images: Iterable[np.ndarray], model: Path | None = None) -> list[np.ndarray | None]:
    """The landmarks of one face in each of some still pictures, each looked at by itself.

    Args:
        images: uint8 [H, W, 3] RGB each.
        model: as of `face_tracker`.

    Returns:
        float32 [478, 3] in pixels of the picture, depth in the same unit, or None where no face is found.

    Raises:
        UserError: as `face_tracker`.
    """
    import mediapipe
    from mediapipe.tasks.python.vision import RunningMode

    path, found = find_model(LANDMARKER, model, "--face-landmarker"), []
    with contextlib.closing(_landmarker(path, RunningMode.IMAGE, num_faces=1, shapes=False)) as landmarker:
        for image in images:
            height, width = image.shape[:2]
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=enlarged(image))
            faces = landmarker.detect(picture).face_landmarks
            found.append(_in_pixels(faces[0], width, height) if faces else None)
    return found


def enlarged(image: np.ndarray) -> np.ndarray:
    """`image` uint8 [H, W, 3], contiguous, with its shorter side at least `STILL_SIZE` pixels long."""
    scale = max(1.0, STILL_SIZE / min(image.shape[:2]))
    return np.ascontiguousarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))


def _landmarker(path: Path, mode, num_faces: int, shapes: bool):
    """MediaPipe's own FaceLandmarker, to be closed; with `shapes` it gives blendshapes and pose too."""
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions

    options = FaceLandmarkerOptions(
        BaseOptions(model_asset_path=str(path)),
        running_mode=mode,
        num_faces=num_faces,
        output_face_blendshapes=shapes,
        output_facial_transformation_matrixes=shapes,
    )
    try:
        with without_log():
            return FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a usable face landmarker model ({reason}); download it again") from None


def _in_pixels(points, width: int, height: int) -> np.ndarray:
    """float32 [478, 3] of MediaPipe's normalised landmarks; depth comes in units of the width, as x does."""
    return np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)


class PersonFollower:
    """Picks the same person's face in every frame.

    Faces are matched to the boxes of the frame before by overlap, ours and the others' alike, so that ours is
    not replaced by a neighbour while it is lost. The first face, and the first after a cut, is the largest
    and most central one.
    """

    def __init__(self, width: int, height: int):
        self._centre = np.array([width, height]) / 2
        self._box: np.ndarray | None = None
        self._others: list[np.ndarray] = []
        self.frames_with_others = 0

    def pick(self, faces: list[Face], cut: bool) -> Face | None:
        """Our face among `faces`, or None; `cut`: the picture changed completely before this frame."""
        if cut:
            self._box, self._others = None, []
        ours = self._match(faces)
        others = [face.box for face in faces if face is not ours]
        if others:
            self.frames_with_others += 1
            self._others = others
        if ours is not None:
            self._box = ours.box
        return ours

    def _match(self, faces: list[Face]) -> Face | None:
        if not faces:
            return None
        if self._box is None:
            return max(faces, key=self._prominence)
        scores = [overlap(face.box, self._box) for face in faces]
        best = int(np.argmax(scores))
        if scores[best] > 0.1:
            return faces[best]
        # Moved further than it is wide, or back after a gap: any face that was not somebody else's so far.
        strangers = [f for f in faces if all(overlap(f.box, other) < 0.1 for other in self._others)]
        return min(strangers, key=self._distance, default=None)

    def _prominence(self, face: Face) -> float:
        size = face.box[2:] - face.box[:2]
        away = np.abs((face.box[:2] + face.box[2:]) / 2 - self._centre) / self._centre
        return float(np.sqrt(size.prod()) * (1 - 0.5 * away.max()))

    def _distance(self, face: Face) -> float:
        return float(np.linalg.norm((face.box - self._box)[:2] + (face.box - self._box)[2:]))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4]."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (size <= 0).any():
        return 0.0
    shared = size.prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


def pose_angles(pose: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in degrees, [..., 3], of poses [..., 4, 4].

    Yaw is positive when the nose points to the image's right edge, pitch upwards, roll counter-clockwise.
    """
    yaw = np.arctan2(pose[..., 0, 2], pose[..., 2, 2])
    pitch = np.arcsin(np.clip(pose[..., 1, 2], -1, 1))
    roll = np.arctan2(pose[..., 1, 0], pose[..., 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))
