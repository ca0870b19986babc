"""A capture on disk: the prepared frames, maps and tracking of one video.

capture/
  capture.json     the manifest
  frames/          000000.png ... the crop, RGB
  parsing/         the parsing maps in palette colours
  geometry/        the normals of the face model
  iris/            right iris, left iris, eye openings as R, G, B
  tracking.npz     landmarks, blendshapes, pose, shots and the frame map
  face.npz         the face model fitted to it: who the person is, how it moves (face_track.py)
  audio.mka        the source's audio, where it had any; time 0 is frame 0
  overlay.mp4      frame, landmarks, parsing, geometry and geometry on the frame side by side, to look at
  channels.png     the person at rest, and with each expression channel of the face model alone
  quality.txt      how good the clip is for an avatar, and what to do about it
"""

import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.images import read_pngs, write_png
from svp_jax.errors import UserError
from svp_jax.manifest import content_sha256, parts, read_manifest, write_manifest

MAPS = ("frames", "parsing", "geometry", "iris")
TRACKING = "tracking.npz"
AUDIO = "audio.mka"


def check_size(size: int) -> None:
    """Raises UserError where `size` is no positive multiple of 64 (the VAE's 8 times the UNet's 8)."""
    if size < 64 or size % 64:
        near = max(64, round(size / 64) * 64)
        raise UserError(f"--size {size}: allowed are multiples of 64, such as {near}")


@dataclass(frozen=True)
class Capture:
    """An opened capture of N frames of S x S pixels; images are read when asked for.

    Attributes:
        landmarks: float32 [N, L, 3], smoothed, in pixels of the crop; not a number where no face was found.
        shot: int32 [N]; -1 marks frames that cannot be used, a new number starts after each cut or gap.
    """

    folder: Path
    manifest: dict
    landmarks: np.ndarray
    shot: np.ndarray

    @property
    def size(self) -> int:
        return self.manifest["size"]

    @property
    def frame_count(self) -> int:
        return self.manifest["frame_count"]

    @property
    def frame_rate(self) -> Fraction:
        return Fraction(self.manifest["frame_rate"])

    @property
    def usable(self) -> np.ndarray:
        """bool [N]: the frames that have a face."""
        return self.shot >= 0

    @property
    def train_indices(self) -> np.ndarray:
        """The usable frames of the first part in time, int [n]."""
        return self._split("train")

    @property
    def test_indices(self) -> np.ndarray:
        """The usable frames of the held-out last part, int [n]."""
        return self._split("test")

    @property
    def audio_path(self) -> Path | None:
        path = self.folder / AUDIO
        return path if path.exists() else None

    def frames(self, indices) -> np.ndarray:
        """uint8 [n, S, S, 3] RGB."""
        return read_pngs(self.folder / "frames", indices)

    def parsing(self, indices) -> np.ndarray:
        """Parsing maps in palette colours, uint8 [n, S, S, 3]."""
        return read_pngs(self.folder / "parsing", indices)

    def geometry(self, indices) -> np.ndarray:
        """Coloured normals of the face model, uint8 [n, S, S, 3]."""
        return read_pngs(self.folder / "geometry", indices)

    def iris(self, indices) -> np.ndarray:
        """Iris maps, uint8 [n, S, S, 3]: right iris, left iris, eye openings."""
        return read_pngs(self.folder / "iris", indices)

    def tracking(self) -> dict[str, np.ndarray]:
        """All arrays of `tracking.npz`."""
        return _read_tracking(self.folder)

    def damaged_files(self) -> list[str]:
        """Names of the parts whose content differs from the hashes in the manifest (reads every file)."""
        files = self.manifest["files"].items()
        return [name for name, digest in files if content_sha256(self.folder / name) != digest]

    def _split(self, part: str) -> np.ndarray:
        start, stop = self.manifest["split"][part]
        return start + np.flatnonzero(self.usable[start:stop])


def open_capture(folder: Path) -> Capture:
    """Opens a finished capture.

    Raises:
        UserError: not a finished capture, an edited manifest, or a missing or unfitting file.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, "capture")
    for name in manifest["files"]:
        if not (folder / name).exists():
            raise UserError(f"{folder}: {name} is missing; prepare the video again")
    count = manifest["frame_count"]
    for name in MAPS:
        expected = {f"{index:06d}.png" for index in range(count)}
        missing = sorted(expected - {path.name for path in (folder / name).iterdir()})
        if missing:
            raise UserError(
                f"{folder}/{name}: {len(missing)} of {count} images are missing, the first is {missing[0]}; "
                "prepare the video again"
            )
    tracking = _read_tracking(folder)
    if len(tracking["shot"]) != count or len(tracking["landmarks"]) != count:
        raise UserError(f"{folder}/{TRACKING} does not have the {count} frames of capture.json; prepare again")
    return Capture(folder, manifest, tracking["landmarks"], tracking["shot"])


class CaptureWriter:
    """Writes a capture frame by frame, then its tracking and manifest.

    Args:
        folder: an existing, staged folder (see `svp_jax.manifest.staged_folder`).
        size: width and height of all images, a multiple of 64.
    """

    def __init__(self, folder: Path, size: int):
        check_size(size)
        self.folder, self.size, self.count = Path(folder), size, 0
        for name in MAPS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def add(self, frame: np.ndarray, parsing: np.ndarray, geometry: np.ndarray, iris: np.ndarray) -> None:
        """Writes the next frame's four images, each uint8 [size, size, 3]."""
        for name, image in zip(MAPS, (frame, parsing, geometry, iris), strict=True):
            if image.shape != (self.size, self.size, 3):
                raise ValueError(f"{name}: got {image.shape}, expected {(self.size, self.size, 3)}")
            write_png(self.folder / name / f"{self.count:06d}.png", image)
        self.count += 1

    def finish(self, tracking: dict[str, np.ndarray], info: dict) -> None:
        """Writes tracking and manifest; files already in the folder (audio, overlay) are hashed too.

        Args:
            tracking: at least `landmarks` [N, L, 3] and `shot` [N]; optional `landmarks_raw`, `blendshapes`
                [N, B], `blendshape_names` [B], `pose` [N, 4, 4], `source_frame` [N], `source_time` [N] (s).
            info: at least `source`, `frame_rate`, `face_model`, `parser`, `test_fraction`; the rest
                (`settings`, `quality`, `warnings`, `prompt`, ...) is stored as it is.
        """
        rate = Fraction(info["frame_rate"])
        arrays = _complete_tracking(tracking, self.count, rate)
        try:
            np.savez_compressed(self.folder / TRACKING, **arrays)
        except OSError as error:
            raise UserError(f"{self.folder / TRACKING}: cannot write ({error}); free space") from None
        split = self.count - round(self.count * info["test_fraction"])
        # Where a frame of the source is shown twice, both showings stay on one side.
        source = arrays["source_frame"]
        while 0 < split < self.count and source[split] == source[split - 1]:
            split += 1
        names = [*MAPS, *(path.name for path in parts(self.folder) if path.is_file())]
        body = {
            "size": self.size,
            "frame_count": self.count,
            "split": {"train": [0, split], "test": [split, self.count]},
            "settings": {},
            "quality": {},
            "warnings": [],
            **info,
            "frame_rate": str(rate),
            "files": {name: content_sha256(self.folder / name) for name in names},
        }
        write_manifest(self.folder, "capture", body)


def _complete_tracking(tracking: dict, count: int, rate: Fraction) -> dict[str, np.ndarray]:
    shot = np.asarray(tracking["shot"], np.int32)
    landmarks = np.asarray(tracking["landmarks"], np.float32)
    arrays = {
        "landmarks_raw": landmarks,
        "blendshapes": np.zeros((count, 0), np.float32),
        "blendshape_names": np.zeros(0, "U32"),
        "pose": np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)),
        "source_frame": np.arange(count, dtype=np.int32),
        "source_time": np.array([float(index / rate) for index in range(count)]),
        **tracking,
        "landmarks": landmarks,
        "shot": shot,
    }
    for name, array in arrays.items():
        if name != "blendshape_names" and len(array) != count:
            raise ValueError(f"tracking[{name!r}]: {len(array)} frames, but {count} were added")
    return arrays


def _read_tracking(folder: Path) -> dict[str, np.ndarray]:
    path = folder / TRACKING
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the video again") from None
