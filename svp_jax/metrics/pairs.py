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
    common = np.array(sorted(common))
    chosen = [np.unique(each.reference, return_index=True) for each in pairs]
    rows = [first[np.isin(frames, common)] for frames, first in chosen]
    # Only where all of them go on: scores of motion are then taken between the same frames.
    follows = np.concatenate([[False], np.diff(common) == 1])
    for each, row in zip(pairs, rows, strict=True):
        follows &= each.follows[row] & np.concatenate([[False], np.diff(row) == 1])
    reason = "not shown by every method"
    found = []
    for each, row in zip(pairs, rows, strict=True):
        dropped = len(each.subject) - len(row)
        left_out = each.left_out | ({reason: dropped} if dropped else {})
        found.append(Pairs(each.subject[row], common, follows, each.rule, left_out))
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
