"""What moves an avatar: a capture as it is, or the avatar's own face model, moved by a capture, a file or a script."""

import threading
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.capture.face_track import draw_track
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters

# Drawn frames that are remembered: at least so many, and of the largest request so many times. Windows overlap, and two
# stages and the files ask for the same one after the other, a chunk or two apart.
_KEPT, _KEPT_REQUESTS = 64, 6


@dataclass
class Posed:
    """The avatar's face in N frames, before the avatar's camera.

    Attributes:
        drawn: (geometry, iris map) of frames that were drawn lately.
        largest: how many were asked for at once at most.
    """

    model: FaceModel
    parameters: FaceParameters
    camera: Camera
    size: int
    drawn: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    largest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def images(self, indices) -> list[tuple[np.ndarray, np.ndarray]]:
        """(geometry, iris map) of each of the frames `indices`; for several threads."""
        with self.lock:
            return self._images(indices)

    def _images(self, indices) -> list[tuple[np.ndarray, np.ndarray]]:
        wanted = {int(index) for index in indices}
        self.largest = max(self.largest, len(wanted))
        absent = np.array(sorted(wanted - self.drawn.keys()), int)
        if len(absent):
            images = draw_track(self.model, self.parameters.frames(absent), self.camera, self.size)
            self.drawn.update(zip(absent.tolist(), images, strict=True))
        found = [self.drawn[int(index)] for index in indices]
        for index in list(self.drawn)[: -max(_KEPT, _KEPT_REQUESTS * self.largest)]:
            del self.drawn[index]
        return found


@dataclass(frozen=True)
class Driver:
    """N frames that an avatar is rendered for.

    Attributes:
        path: what the user gave. sha256: of the capture's manifest, or of the file.
        face_model: of the condition images.
        split: part -> [start, stop); a script has no "train".
        capture: where the motion comes from; None for files, which have neither pictures nor sound.
        posed: None takes the capture's own condition images.
    """

    path: Path
    sha256: str
    size: int
    frame_rate: Fraction
    shot: np.ndarray
    split: dict[str, list[int]]
    face_model: str
    capture: Capture | None = None
    posed: Posed | None = None

    @property
    def frame_count(self) -> int:
        return len(self.shot)

    @property
    def audio_path(self) -> Path | None:
        return None if self.capture is None else self.capture.audio_path

    def geometry(self, indices) -> np.ndarray:
        """Coloured normals, uint8 [n, S, S, 3]."""
        if self.posed is None:
            return self.capture.geometry(indices)
        return np.stack([geometry for geometry, _ in self.posed.images(indices)])

    def iris(self, indices) -> np.ndarray:
        """Iris maps, uint8 [n, S, S, 3]."""
        if self.posed is None:
            return self.capture.iris(indices)
        return np.stack([iris for _, iris in self.posed.images(indices)])


def of_capture(capture: Capture) -> Driver:
    """The capture as it is."""
    return Driver(
        path=capture.folder,
        sha256=capture.manifest["manifest_sha256"],
        size=capture.size,
        frame_rate=capture.frame_rate,
        shot=capture.shot,
        split=capture.manifest["split"],
        face_model=capture.manifest["face_model"],
        capture=capture,
    )
