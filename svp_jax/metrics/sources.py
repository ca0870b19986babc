"""What can be scored: a render, a capture, a video file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import read_png
from svp_jax.capture.video import nominal_rate, open_video
from svp_jax.errors import UserError
from svp_jax.manifest import FILE_NAMES, read_manifest, sha256_file

Pictures = Callable[[np.ndarray], Iterator[np.ndarray]]
"""Numbers of scored frames, rising -> their pictures uint8 [H, W, 3]."""


@dataclass(frozen=True)
class Source:
    """Pictures in time.

    Attributes:
        kind: "render", "capture" or "video".
        times: float [count], seconds from the first picture on.
        video: the file that the pictures are decoded from; None for a capture and a render.
        capture: None but for a capture.
        render: the manifest of a render, else None.
    """

    path: Path
    kind: str
    height: int
    width: int
    count: int
    frame_rate: Fraction
    times: np.ndarray
    video: Path | None = None
    capture: Capture | None = None
    render: dict | None = None

    def pictures(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the pictures uint8 [H, W, 3] of `indices`, which must not fall."""
        if self.capture is not None:
            for index in indices:
                yield self.capture.frames([index])[0]
            return
        if self.render is not None:
            for index in indices:
                yield read_png(_frame_path(self.path, self.render["frames"][index]))
            return
        frames = enumerate(image for _, image in open_video(self.video).frames())
        number, image = -1, None
        for index in indices:
            while number < index:
                number, image = next(frames)
            yield image

    def describe(self) -> dict:
        """For the report: what was read."""
        manifest = self.render or (self.capture.manifest if self.capture else {})
        return {
            "path": str(self.path.resolve()),
            "kind": self.kind,
            "manifest_sha256": manifest.get("manifest_sha256"),
            "video_sha256": None if self.video is None else sha256_file(self.video),
            "size": [self.height, self.width],
            "frames": self.count,
            "frame_rate": str(self.frame_rate),
        }


def open_source(path: Path) -> Source:
    """Opens a render folder, a capture folder or a video file.

    Raises:
        UserError: it is none of the three, is damaged, or is a render without result pictures.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such render, capture or video file")
    if not path.is_dir():
        return _open_video(path)
    if (path / FILE_NAMES["capture"]).is_file():
        capture = open_capture(path)
        return Source(
            path,
            "capture",
            capture.size,
            capture.size,
            capture.frame_count,
            capture.frame_rate,
            _even_times(capture.frame_count, capture.frame_rate),
            capture=capture,
        )
    if not (path / FILE_NAMES["render"]).is_file():
        raise UserError(f"{path} is no finished render or capture; give one of the two, or a video file")
    manifest = read_manifest(path, "render")
    absent = [frame for frame in manifest["frames"] if not _frame_path(path, frame).is_file()]
    if absent:
        raise UserError(f"{path} has no {_frame_path(Path(), absent[0])} to score; render it with both stages")
    return Source(
        path,
        "render",
        manifest["size"],
        manifest["size"],
        len(manifest["frames"]),
        Fraction(manifest["frame_rate"]),
        _even_times(len(manifest["frames"]), Fraction(manifest["frame_rate"])),
        render=manifest,
    )


def _frame_path(render: Path, frame: int) -> Path:
    """The picture of the driver's frame `frame`, without loss."""
    return render / "frames" / f"{frame:06d}.png"


def _open_video(path: Path) -> Source:
    video = open_video(path)
    # Containers may announce no number of frames, or a wrong one.
    times = np.array([float(time) for time, _ in video.frames()])
    rate = nominal_rate(times, video.frame_rate)
    return Source(path, "video", video.height, video.width, len(times), rate, times - times[0], video=path)


def _even_times(count: int, rate: Fraction) -> np.ndarray:
    return np.arange(count) / float(rate)
