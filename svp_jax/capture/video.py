"""Video files read with PyAV: exact frame rates, presentation times, damage counted."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from svp_jax.errors import UserError


@dataclass
class Video:
    """An opened video file; see `open_video`.

    Attributes:
        width, height: of the frames as shown (rotated, square pixels).
        frame_rate: exact; for a variable rate the container's nominal one.
        announced: how many frames the container says it has, 0 where it does not say.
        zero: presentation time of the first frame in the file, in seconds; not 0 in transport streams and cut files.
        damage: what went wrong while frames were read, None as long as nothing did.
    """

    path: Path
    width: int
    height: int
    frame_rate: Fraction
    announced: int
    zero: Fraction = Fraction(0)
    damage: str | None = None

    def frames(self, start: float = 0.0, stop: float = float("inf")) -> Iterator[tuple[float, np.ndarray]]:
        """Yields (presentation time in seconds, uint8 [height, width, 3] RGB) with start <= time < stop.

        Times count from the first frame. A file that breaks off yields what can be decoded, then warns
        and sets `damage`.
        """
        count = 0
        with av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            # Slice threads (the default) report a broken packet; frame threads drop it in silence.
            step = 1 / self.frame_rate
            time = -float(step)
            try:
                for frame in container.decode(stream):
                    # A frame without a time follows the one before it.
                    time = float(_seconds(frame) - self.zero) if frame.pts is not None else time + float(step)
                    count += 1
                    if time >= stop:
                        return
                    if time >= start:
                        yield time, self._shown(frame)
            except av.FFmpegError as error:
                said = f" of {self.announced}" if self.announced else ""
                self.damage = f"{self.path.name} is damaged ({error.strerror}): {count}{said} frames could be read"
                warnings.warn(self.damage + ", the rest is left out", stacklevel=2)

    def expected(self, start: float, stop: float) -> int:
        """About how many frames lie between two times in seconds, 0 where the container does not say."""
        first, last = (round(min(self.announced, time * float(self.frame_rate))) for time in (start, stop))
        return last - first

    def _shown(self, frame: av.VideoFrame) -> np.ndarray:
        turns = round(frame.rotation / 90) % 4
        width, height = (self.height, self.width) if turns % 2 else (self.width, self.height)
        image = frame.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def open_video(path: Path) -> Video:
    """Opens a video file and reads its first frame.

    Raises:
        UserError: no such file, no video, or not one frame of it can be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such video file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no video stream; give a video file such as mp4, mkv or mov")
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            rate = stream.guessed_rate or stream.average_rate or stream.base_rate
            if rate is None or not 1 <= rate <= 240:
                raise UserError(f"{path} has no usable frame rate ({rate}); encode it at 25 to 60 frames/s")
            pixel = stream.sample_aspect_ratio or 1
            width, height = max(1, round(frame.width * pixel)), frame.height
            if round(frame.rotation / 90) % 2:
                width, height = height, width
            zero = _seconds(frame) if frame.pts is not None else Fraction(0)
            return Video(path, width, height, Fraction(rate), stream.frames, zero)
    except (av.FFmpegError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "no frame in it"
        raise UserError(f"{path} cannot be read as a video ({reason}); it may be cut off or no video") from None


def _seconds(frame: av.VideoFrame) -> Fraction:
    return frame.pts * frame.time_base


def constant_rate_map(times: np.ndarray, frame_rate: Fraction) -> np.ndarray:
    """Which source frame a constant rate shows in each of its slots, int32 [N].

    Slot i lasts from i / rate to (i + 1) / rate after the first frame, and shows the frame that is on screen
    in its middle: so times that jitter by less than half a slot map one to one.

    Args:
        times: presentation times of the source frames in seconds, increasing.
    """
    times = np.asarray(times, np.float64) - times[0]
    step = float(1 / frame_rate)
    # The last source frame stays for one slot; rounding, because its own time may jitter.
    count = round(times[-1] / step) + 1
    middles = (np.arange(count) + 0.5) * step
    return np.maximum(np.searchsorted(times, middles, side="right") - 1, 0).astype(np.int32)
