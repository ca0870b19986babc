"""The settings of `svp prepare`."""

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from svp_jax.capture.capture import check_size
from svp_jax.errors import UserError, outside
from svp_jax.face.smoothing import SIGMA

RANGES = {"smoothing": (0, 20), "margin": (0, 5), "test_fraction": (0, 0.9), "start": (0, 1e6)}


@dataclass(frozen=True)
class PrepareOptions:
    """What a user can choose about a capture; every field is a flag of `svp prepare`.

    Raises:
        UserError: a value outside what is allowed.
    """

    size: int = 512
    """Width and height of the images, a multiple of 64."""
    face_model: Literal["mediapipe", "ict", "flame"] = "mediapipe"
    """Of the condition images, fitted to the tracking: MediaPipe's own mesh, ICT-FaceKit or FLAME."""
    face_model_file: Path | None = None
    """The file (or, of ICT-FaceKit, the repository's folder) of the face model; looked for where the other model files
    are if not given."""
    face_parameters: Path | None = None
    """FLAME parameters that another tracker found in this video (DECA, EMOCA, SPECTRE, SMIRK, VHAP, metrical-tracker),
    instead of a fit; docs/importers.md says which files."""
    face_landmarker: Path | None = None
    """MediaPipe's face_landmarker.task; looked for in $SVP_MODELS and ~/.cache/svp_jax if not given."""
    parser: str | None = None
    """A YAML description of an ONNX parser, a MediaPipe .tflite segmenter, or "landmarks"; if not given, the first
    of these whose model is there."""
    smoothing: float = SIGMA
    """Sigma of the tracking's smoothing in frames; 0 turns it off."""
    margin: float = 1.0
    """Factor on the room around the face in the crop."""
    test_fraction: float = 0.2
    """Last part of the clip, held out from training."""
    start: float = 0.0
    """Seconds of the video to skip at the beginning."""
    seconds: float | None = None
    """Length to use; up to the end if not given."""
    frame_rate: str | None = None
    """Of the capture, such as 25 or 30000/1001; the video's own if not given."""
    prompt: str | None = None
    """Text that describes the person, stored for training."""
    force: bool = False
    """Replace a finished capture."""

    def __post_init__(self):
        check_size(self.size)
        if self.face_model_file is not None and self.face_model == "mediapipe":
            raise UserError("--face-model-file belongs to --face-model ict or flame; leave it out")
        if self.face_parameters is not None and self.face_model != "flame":
            raise UserError("--face-parameters are FLAME's; add --face-model flame")
        if self.face_parameters is not None and self.start > 0:
            raise UserError("--start would shift the frames of --face-parameters; leave one of the two out")
        for name, (low, high) in RANGES.items():
            if problem := outside(getattr(self, name), low, high):
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: {problem}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"--seconds {self.seconds}: allowed are positive numbers")
        if self.rate is not None and not 1 <= self.rate <= 240:
            raise UserError(f"--frame-rate {self.frame_rate}: allowed are 1 to 240")

    @property
    def rate(self) -> Fraction | None:
        """The frame rate as a number."""
        try:
            return None if self.frame_rate is None else Fraction(self.frame_rate)
        except (ValueError, ZeroDivisionError):
            raise UserError(
                f"--frame-rate {self.frame_rate}: allowed are numbers and fractions such as 25 or 30000/1001"
            ) from None

    @property
    def stop(self) -> float:
        """Where in the video to end, in seconds."""
        return math.inf if self.seconds is None else self.start + self.seconds

    def as_json(self) -> dict:
        """The options that say what the capture holds, as JSON values."""
        plain, fields = int | float | None, asdict(self)
        del fields["force"]
        return {name: value if isinstance(value, plain) else str(value) for name, value in fields.items()}
