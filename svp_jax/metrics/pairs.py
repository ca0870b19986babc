"""Which picture of a video is compared with which of its reference."""

import warnings
from dataclasses import dataclass

import numpy as np

from svp_jax.errors import UserError
from svp_jax.metrics.sources import Source


@dataclass(frozen=True)
class Pairs:
    """Which picture of the subject is compared with which of the reference, in time order.

    Attributes:
        subject, reference: int [n], positions.
        seconds: float [n, 2], when either video shows them.
        shots: int [n], the same number for pairs of the same shot of both.
        step: seconds of a frame of the video with the fewer ones.
        rule: how they were paired, in words.
        left_out: reason -> number of the subject's pictures that are not scored.
    """

    subject: np.ndarray
    reference: np.ndarray
    seconds: np.ndarray
    shots: np.ndarray
    step: float
    rule: str
    left_out: dict[str, int]

    @property
    def follows(self) -> np.ndarray:
        """bool [n], the pair comes right after the one before it, in the same shot, and both videos go on as far."""
        steps = np.diff(self.seconds, axis=0)
        # A quarter: times of containers are rounded.
        near = (steps > 0).all(axis=1) & (np.abs(steps - self.step) <= self.step / 4).all(axis=1)
        return np.concatenate([[False], near & (np.diff(self.shots) == 0)])

    def chosen(self, rows: np.ndarray, left_out: dict[str, int], step: float) -> "Pairs":
        """Only these rows."""
        parts = (self.subject[rows], self.reference[rows], self.seconds[rows], self.shots[rows])
        return Pairs(*parts, step, self.rule, self.left_out | left_out)


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
    kept, numbers, shots = positions[keep], numbers[keep], shots[keep]
    seconds = np.stack([subject.times[kept], reference.times[numbers]], axis=1)
    step = float(max(1 / subject.frame_rate, 1 / reference.frame_rate))
    pairs = Pairs(kept, numbers, seconds, shots, step, rule, left_out)
    # Where the subject has more frames, one for each of the reference's.
    _, first = np.unique(numbers, return_index=True)
    more = len(numbers) - len(first)
    return pairs.chosen(
        np.sort(first), {"another one shows the same frame of the reference": more} if more else {}, step
    )


def shown_by_all(pairs: list[Pairs], names: list[str]) -> list[Pairs]:
    """The pairs of those reference frames that every method shows, one each; of one method all pairs.

    Args:
        pairs: of each method with the same reference. names: of the methods.

    Raises:
        UserError: there is no such frame.
    """
    if len(pairs) == 1:
        return pairs
    common = set.intersection(*(set(each.reference.tolist()) for each in pairs))
    if not common:
        raise UserError(f"{' and '.join(names)} show no frame of the reference together; score them one by one")
    rows = [np.flatnonzero(np.isin(each.reference, list(common))) for each in pairs]
    step = max(each.step for each in pairs)
    found = []
    for each, row in zip(pairs, rows, strict=True):
        dropped = len(each.subject) - len(row)
        found.append(each.chosen(row, {"not shown by every method": dropped} if dropped else {}, step))
    return found


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
    if subject.count == reference.count and _at_the_same_times(subject.times, reference.times, reference):
        return same, "by position: both show as many frames at the same times"
    # In a video file, which may be the driver's; a render shows frames of its own.
    if reference.kind == "video" and subject.render is not None and max(subject.render["frames"]) < reference.count:
        numbers = np.array(subject.render["frames"])
        times = reference.times[numbers] - reference.times[numbers[0]]
        if _at_the_same_times(subject.times, times, reference):
            return numbers, "by the frame map of render.json"
    if reference.capture is not None:
        start, stop = reference.capture.manifest["split"]["test"]
        if subject.count == stop - start:
            times = reference.times[start:stop] - reference.times[start]
            if _at_the_same_times(subject.times, times, reference):
                return start + same, "by position in the reference's held-out part"
    # Half a frame, and a microsecond for rounding.
    half = 0.5 / float(subject.frame_rate) + 1e-6
    subject_length, length = (each.times[-1] + 1 / float(each.frame_rate) for each in (subject, reference))
    if abs(subject_length - length) <= float(max(1 / subject.frame_rate, 1 / reference.frame_rate)):
        numbers = np.searchsorted(reference.times, subject.times + half, side="right") - 1
        return numbers, "by time: the reference's frame on screen half a frame after each begins"
    raise UserError(
        f"{subject.path} has {subject.count} frames ({subject_length:.2f} s, {float(subject.frame_rate):g} a second), "
        f"{reference.path} has {reference.count} ({length:.2f} s, {float(reference.frame_rate):g} a second); allowed: "
        "the same length, that of the reference's held-out part, or a render of it"
    )


def _at_the_same_times(times: np.ndarray, others: np.ndarray, source: Source) -> bool:
    """Whether frame by frame they are less than half a frame of `source` apart."""
    return bool((np.abs(times - others) < 0.5 / float(source.frame_rate)).all())
