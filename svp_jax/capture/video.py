"""Video files in and out with PyAV: exact frame rates, presentation times, audio packets copied."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from svp_jax.errors import UserError

# Sound that an mp4 can carry as it is; any other is encoded again.
MP4_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}


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


class VideoWriter:
    """Writes an mp4: h264, yuv420p, exact frame rate, sound copied; appears under its name when closed.

    Use as a context manager: an error inside leaves no file. An odd width or height gets one more column or
    row, because yuv420p halves both.

    Args:
        path: the mp4 to write.
        frame_rate: exact frames per second.
        audio: a file whose sound is copied (as packets where mp4 can carry it), cut to the video's length.
        audio_start: seconds in `audio` at which the video's first frame lies.
        crf: quality of libx264, 0 lossless to 51 worst.
        preset: of libx264, how long it may take.
        metadata: tags of the container, any keys.
    """

    def __init__(
        self,
        path: Path,
        frame_rate: Fraction,
        width: int,
        height: int,
        audio: Path | None = None,
        audio_start: float = 0.0,
        crf: int = 18,
        preset: str = "medium",
        metadata: dict[str, str] | None = None,
    ):
        self.path, self.rate, self.size = Path(path), Fraction(frame_rate), (height, width)
        self.count = 0
        # The suffix stays last: it chooses the container.
        self._partial = self.path.with_name(self.path.stem + ".partial" + self.path.suffix)
        flags = {"movflags": "+faststart+use_metadata_tags"}
        self._container = av.open(str(self._partial), "w", options=flags)
        self._container.metadata.update(metadata or {})
        self._stream = self._container.add_stream(
            "libx264", rate=self.rate, options={"crf": str(crf), "preset": preset}
        )
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = 1 / self.rate
        self._source, self._packets, self._next_packet = None, iter(()), None
        if audio is not None:
            self._add_audio(Path(audio), audio_start)
        try:
            self._container.start_encoding()
        except (OSError, av.FFmpegError) as error:
            self._abandon()
            raise UserError(f"{self.path}: cannot write ({error.strerror}); choose another --out") from None

    def write(self, image: np.ndarray) -> None:
        """Appends one frame uint8 [height, width, 3] RGB."""
        if image.shape != (*self.size, 3) or image.dtype != np.uint8:
            raise ValueError(f"image: got {image.dtype} {image.shape}, expected uint8 {(*self.size, 3)}")
        padded = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame.pts, frame.time_base = self.count, 1 / self.rate
        self.count += 1
        self._mux(self._stream.encode(frame))
        self._mux_audio(self.count / self.rate)

    def close(self) -> None:
        """Finishes the file and gives it its name; an error leaves no file."""
        try:
            self._mux(self._stream.encode())
            self._mux_audio(self.count / self.rate)
            self._container.close()
            self._partial.replace(self.path)
        except (OSError, av.FFmpegError) as error:
            self._abandon()
            raise UserError(f"{self.path}: cannot write ({error.strerror}); free space") from None
        except BaseException:
            self._abandon()
            raise
        self._close_source()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
            return
        self._abandon()

    def _abandon(self) -> None:
        """Leaves no file; the error that brought us here is the one to tell."""
        with contextlib.suppress(OSError, av.FFmpegError):
            self._container.close()
        self._close_source()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _add_audio(self, path: Path, start: float) -> None:
        try:
            self._source = av.open(str(path))
        except (OSError, av.FFmpegError) as error:
            self._abandon()
            raise UserError(f"{path}: cannot read the sound ({error.strerror})") from None
        if not self._source.streams.audio:
            return
        source = self._source.streams.audio[0]
        if source.codec_context.name in MP4_AUDIO:
            target = self._container.add_stream_from_template(source)
            self._packets = _shifted_packets(self._source, target, start)
        else:
            target = self._container.add_stream("aac", rate=source.codec_context.sample_rate)
            self._packets = _encoded_packets(self._source, target, start)
        self._next_packet = next(self._packets, None)

    def _mux_audio(self, until: Fraction) -> None:
        while self._next_packet is not None:
            packet = self._next_packet
            if packet.pts * packet.time_base >= until:
                return
            self._mux([packet])
            self._next_packet = next(self._packets, None)

    def _mux(self, packets) -> None:
        try:
            for packet in packets:
                self._container.mux(packet)
        except (OSError, av.FFmpegError) as error:
            raise UserError(f"{self.path}: cannot write ({error.strerror}); free space") from None

    def _close_source(self) -> None:
        self._packets, self._next_packet = iter(()), None
        if self._source is not None:
            self._source.close()
            self._source = None


def copy_audio(source: Path, target: Path, start: float, stop: float) -> bool:
    """Copies the sound packets of `source` from `start` to `stop` to `target` (mka), `start` at 0.

    Times are the file's own, in seconds: a video's first frame is at `Video.zero`.

    Returns False, and writes nothing, where there is no sound in that time.
    """
    written = 0
    try:
        with av.open(str(source)) as reader:
            if not reader.streams.audio:
                return False
            with av.open(str(target), "w") as writer:
                stream = writer.add_stream_from_template(reader.streams.audio[0])
                for packet in _shifted_packets(reader, stream, start):
                    if packet.pts * packet.time_base >= stop - start:
                        break
                    writer.mux(packet)
                    written += 1
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"{target}: cannot write the sound of {source} ({error.strerror}); free space") from None
    if not written:
        Path(target).unlink(missing_ok=True)
    return written > 0


def _readable(items: Iterator) -> Iterator:
    """`items` up to where the file is damaged."""
    with contextlib.suppress(av.FFmpegError):
        yield from items


def _shifted_packets(source, target_stream, start: float) -> Iterator[av.Packet]:
    """Audio packets with `start` seconds moved to 0, as far as the file can be read.

    A packet that begins before 0 is left out (at most one packet, about 20 ms): a container would move the
    whole sound later rather than store a negative time.
    """
    stream = source.streams.audio[0]
    offset = round(start / stream.time_base)
    for packet in _readable(source.demux(stream)):
        if packet.dts is None or packet.pts is None or packet.pts < offset:
            continue
        packet.pts -= offset
        packet.dts -= offset
        packet.stream = target_stream
        yield packet


def _encoded_packets(source, target_stream, start: float) -> Iterator[av.Packet]:
    """The sound from `start` seconds on, decoded and encoded again for `target_stream`, as far as it can be read."""
    rate = target_stream.rate
    resampler = av.AudioResampler(target_stream.format, target_stream.layout, rate)
    position = None
    # The empty frame at the end flushes what the resampler holds back.
    for frame in itertools.chain(_readable(source.decode(source.streams.audio[0])), [None]):
        for part in resampler.resample(frame):
            if position is None:
                position = round((frame.time - start) * rate)
            skipped = min(max(0, -position), part.samples)
            position += part.samples
            if skipped == part.samples:
                continue
            samples = np.ascontiguousarray(part.to_ndarray()[:, skipped:])
            kept = av.AudioFrame.from_ndarray(samples, part.format.name, part.layout.name)
            kept.sample_rate, kept.time_base = rate, Fraction(1, rate)
            kept.pts = position - kept.samples
            yield from target_stream.encode(kept)
    yield from target_stream.encode()
