"""Which of the driver's frames are rendered, and where shots start."""

import re
import warnings
from dataclasses import dataclass

import numpy as np

from svp_jax.errors import UserError
from svp_jax.rendering.driver import Driver


@dataclass(frozen=True)
class Plan:
    """The frames of a render.

    Attributes:
        span: the driver's frames that the video shows, one picture each.
        indices: int [n], those of them that are rendered, ascending.
        starts: bool [n], True where a shot starts: there no previous frame is mixed in.
    """

    span: range
    indices: np.ndarray
    starts: np.ndarray

    @property
    def held(self) -> list[int]:
        """Positions in the video that are not rendered and show the picture before, at first black."""
        return sorted(set(range(len(self.span))) - {int(index) - self.span.start for index in self.indices})


def plan_frames(driver: Driver, frames: str) -> Plan:
    """The frames `frames` ("test", "train", "all" or "a:b") of `driver`.

    Frames without a face are left out, with a warning that counts them. A shot starts at the first frame,
    after every frame that is left out, and where the capture's shot number changes.

    Raises:
        UserError: a malformed or empty span, one that leaves the driver, or one without any usable frame.
    """
    span = _parse_span(driver, frames)
    shot = driver.shot[span.start : span.stop]
    indices = span.start + np.flatnonzero(shot >= 0)
    if not len(indices):
        raise UserError(
            f"--frames {frames}: none of the frames {span.start}:{span.stop} of {driver.path} has a face; choose others"
        )
    left_out = len(span) - len(indices)
    if left_out:
        warnings.warn(
            f"{left_out} of {len(span)} frames of {driver.path} have no face and are not rendered; "
            "the video holds the last picture there",
            stacklevel=3,
        )
    shots = driver.shot[indices]
    starts = np.concatenate([[True], (np.diff(indices) != 1) | (np.diff(shots) != 0)])
    return Plan(span, indices, starts)


def _parse_span(driver: Driver, frames: str) -> range:
    if frames == "all":
        span = range(driver.frame_count)
    elif frames in driver.split:
        span = range(*driver.split[frames])
    elif match := re.fullmatch(r"(\d*):(\d*)", frames):
        start, stop = match.groups()
        span = range(int(start or 0), int(stop or driver.frame_count))
        if span.stop > driver.frame_count or span.start >= span.stop:
            raise UserError(
                f"--frames {frames}: {driver.path} has the frames 0:{driver.frame_count}; "
                "choose a:b with a < b within them"
            )
    else:
        named = ", ".join(driver.split)
        raise UserError(f"--frames {frames}: allowed are {named}, all, or a:b such as 0:{driver.frame_count}")
    if not span:
        raise UserError(f"--frames {frames}: {driver.path} has no such frames; choose all or a:b")
    return span
