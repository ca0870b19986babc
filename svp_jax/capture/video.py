"""Video files read with PyAV: exact frame rates, presentation times, damage counted."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from svp_jax.errors import UserError

USUAL_RATES = tuple(map(Fraction, ("12", "15", "24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60")))


@dataclass
class Video:
    """An opened video file; see `open_video`.

    Attributes:
        width, height: of the frames as shown (rotated, square pixels).
        frame_rate: exact; for a variable rate what the container calls it, see `nominal_rate`.
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
            step = 1 / self.frame_rate
            time = -float(step)
            try:
                # No thread_type: slice threads (the default) report a broken packet, frame threads drop it in silence.
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
            announced = [stream.guessed_rate, stream.average_rate, stream.base_rate]
            zero = _seconds(frame) if frame.pts is not None else Fraction(0)
            # Browsers record webm without a rate: then the first frames' times tell it.
            rate = next(filter(_usable, announced), None) or _measured_rate(
                [zero, *(_seconds(f) for f in itertools.islice(container.decode(stream), 60) if f.pts is not None)]
            )
            if not _usable(rate):
                raise UserError(f"{path} has no usable frame rate ({announced[0]}); encode it at 25 to 60 frames/s")
            pixel = stream.sample_aspect_ratio or 1
            width, height = max(1, round(frame.width * pixel)), frame.height
            if round(frame.rotation / 90) % 2:
                width, height = height, width
            return Video(path, width, height, Fraction(rate), stream.frames, zero)
    except (av.FFmpegError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "no frame in it"
        raise UserError(f"{path} cannot be read as a video ({reason}); it may be cut off or no video") from None


def _seconds(frame: av.VideoFrame) -> Fraction:
    return frame.pts * frame.time_base


def _usable(rate: Fraction | None) -> bool:
    return rate is not None and 1 <= rate <= 240


def _measured_rate(times: Sequence[float]) -> Fraction | None:
    """The rate of frames at these times in seconds, a usual one where that is within 2 %; None where they tell none.

    Gaps that are longer than usual are frames left out, and do not count.
    """
    gaps = np.diff(np.asarray(times, np.float64))
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return None
    rate = 1 / gaps[gaps < 1.5 * np.median(gaps)].mean()
    near = min(USUAL_RATES, key=lambda usual: abs(usual - rate))
    return near if abs(near - rate) < 0.02 * rate else Fraction(rate).limit_denominator(1001)


def nominal_rate(times: np.ndarray, announced: Fraction) -> Fraction:
    """The rate that a clip with frames at `times` (seconds) is meant to have.

    The announced one, unless the frames come much more slowly: of a rate that varies a container may announce the
    finest step between two times, and each frame would be shown several times.
    """
    measured = _measured_rate(times)
    return announced if measured is None or announced < 1.2 * measured else measured


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
