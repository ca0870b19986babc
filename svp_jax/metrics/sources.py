"""What can be scored (a render, a capture, a video file), and which frame is compared with which."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import read_png
from svp_jax.capture.video import nominal_rate, open_video
from svp_jax.errors import UserError
from svp_jax.manifest import FILE_NAMES, read_manifest, sha256_file


@dataclass(frozen=True)
class Source:
    """Pictures in time.

    Attributes:
        kind: "render", "capture" or "video".
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
        render=manifest,
    )


def _frame_path(render: Path, frame: int) -> Path:
    """The picture of the driver's frame `frame`, without loss."""
    return render / "frames" / f"{frame:06d}.png"


def _open_video(path: Path) -> Source:
    video = open_video(path)
    # Containers may announce no number of frames, or a wrong one.
    times = np.array([time for time, _ in video.frames()])
    rate = nominal_rate(times, video.frame_rate)
    return Source(path, "video", video.height, video.width, len(times), rate, video=path)


@dataclass(frozen=True)
class Pairs:
    """Which picture of the subject is compared with which of the reference, in time order.

    Attributes:
        subject, reference: int [n], positions.
        follows: bool [n], the pair comes right after the one before it, in the same shot.
        rule: how they were paired, in words.
        left_out: reason -> number of the subject's pictures that are not scored.
    """

    subject: np.ndarray
    reference: np.ndarray
    follows: np.ndarray
    rule: str
    left_out: dict[str, int]


def pair_frames(subject: Source, reference: Source) -> Pairs:
    """Pairs a subject's pictures with a reference's.

    Raises:
        UserError: sizes differ, the numbers of frames do not fit, or nothing is left to compare.
    """
    if (subject.height, subject.width) != (reference.height, reference.width):
        raise UserError(
            f"{subject.path} is {subject.width} x {subject.height} pixels, {reference.path} is "
            f"{reference.width} x {reference.height}; make both at one size: resizing would change the scores"
        )
    positions = np.arange(subject.count)
    numbers, rule = _matching(subject, reference)
    shots = np.zeros(subject.count, int)
    keep, left_out = np.ones(subject.count, bool), {}
    shown = (numbers >= 0) & (numbers < reference.count)

    def leave_out(reason: str, which: np.ndarray) -> None:
        if (which & keep).any():
            left_out[reason] = left_out.get(reason, 0) + int((which & keep).sum())
            keep[which] = False

    leave_out(f"not among the frames of the {reference.kind} {reference.path.name}", ~shown)
    numbers = np.where(shown, numbers, 0)
    # A new shot wherever one of the two has one: the pair of shot numbers is one number.
    for source, chosen in ((subject, positions), (reference, numbers)):
        if source.render is not None:
            starts = np.isin(np.arange(source.count), source.render["shot_starts"]).cumsum()
            shots = shots * (source.count + 1) + starts[chosen]
            leave_out("not rendered, since the driver has no face", np.isin(chosen, source.render["held"]))
        if source.capture is not None:
            shot = source.capture.shot[chosen]
            shots = shots * (source.capture.shot.max() + 2) + shot + 1
            leave_out(f"no face in the {source.kind} {source.path.name}", shot < 0)
    if not keep.any():
        raise UserError(f"{subject.path}: no frame is left to score ({left_out}); choose other frames")
    kept, shots = positions[keep], shots[keep]
    follows = np.concatenate([[False], (np.diff(kept) == 1) & (np.diff(shots) == 0)])
    return Pairs(kept, numbers[keep], follows, rule, left_out)


def _driver_frames(source: Source, driver_sha256: str) -> np.ndarray | None:
    """Which frame of the driver each picture shows, int [count]; None where it shows another driver or none."""
    if source.render is not None and source.render["driver_sha256"] == driver_sha256:
        return np.array(source.render["frames"])
    if source.capture is not None and source.capture.manifest["manifest_sha256"] == driver_sha256:
        return np.arange(source.count)
    return None


def _matching(subject: Source, reference: Source) -> tuple[np.ndarray, str]:
    """The reference's position for each of the subject's, int [count], and the rule in words.

    Positions that the reference does not have stand for pictures that it does not show.
    """
    same = np.arange(subject.count)
    if reference.render is not None:
        frames = _driver_frames(subject, reference.render["driver_sha256"])
        if frames is not None:
            return frames - reference.render["frames"][0], "by the driver's frames, which both show"
    if subject.render is not None and reference.kind == "capture":
        numbers = np.array(subject.render["frames"])
        if subject.frame_rate != reference.frame_rate:
            raise UserError(
                f"{subject.path} has {subject.frame_rate} frames/s, {reference.path} {reference.frame_rate}; "
                "the frame map of render.json needs a capture at the driver's rate"
            )
        if numbers.max() >= reference.count:
            raise UserError(
                f"{subject.path} shows the driver's frames up to {numbers.max()}, {reference.path} has only "
                f"{reference.count}; give the driver's capture, or one that moves like it"
            )
        if subject.render["driver_sha256"] != reference.capture.manifest["manifest_sha256"]:
            warnings.warn(
                f"{subject.path} was driven by another capture than {reference.path}: the scores say something only "
                "if both move alike, frame by frame",
                stacklevel=4,
            )
            return numbers, "by the frame map of render.json, of another driver than the reference"
        return numbers, "by the frame map of render.json"
    if subject.count == reference.count:
        return same, "by position: both have the same number of frames"
    # In a video file, which may be the driver's; a render shows frames of its own.
    if reference.kind == "video" and subject.render is not None and max(subject.render["frames"]) < reference.count:
        return np.array(subject.render["frames"]), "by the frame map of render.json"
    if reference.capture is not None:
        start, stop = reference.capture.manifest["split"]["test"]
        if subject.count == stop - start:
            return start + same, "by position in the reference's held-out part"
    subject_length, length = (float(s.count / s.frame_rate) for s in (subject, reference))
    if abs(subject_length - length) <= float(max(1 / subject.frame_rate, 1 / reference.frame_rate)):
        middles = (same + 0.5) * float(reference.frame_rate / subject.frame_rate)
        numbers = np.minimum(middles.astype(int), reference.count - 1)
        return numbers, "by time: the reference's frame on screen in the middle of each"
    raise UserError(
        f"{subject.path} has {subject.count} frames ({subject_length:.2f} s), {reference.path} has "
        f"{reference.count} ({length:.2f} s); allowed: the same number of frames, the same length, as many "
        "frames as the reference's held-out part, or a render of it"
    )
