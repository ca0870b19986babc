"""The sound of a video: its packets copied, or encoded again, with another start."""

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from svp_jax.errors import UserError


class UncopiedSound(Exception):
    """A video's sound cannot be kept; its message says why and what to do."""


def copy_audio(source: Path, target: Path, start: float, stop: float) -> bool:
    """Copies the sound packets of `source` from `start` to `stop` to `target` (mka), `start` at 0.

    Times are the file's own, in seconds: a video's first frame is at `Video.zero`.

    The same sound gives the same bytes.

    Returns False, and writes nothing, where there is no sound in that time.

    Raises:
        UncopiedSound: its codec is none that mka can carry.
        UserError: the disk refuses the file.
    """
    written = 0
    try:
        with av.open(str(source)) as reader:
            if not reader.streams.audio:
                return False
            # Without the flag Matroska numbers the file at random.
            with av.open(str(target), "w", options={"fflags": "+bitexact"}) as writer:
                stream = writer.add_stream_from_template(reader.streams.audio[0])
                for packet in shifted_packets(reader, stream, start):
                    if packet.pts * packet.time_base >= stop - start:
                        break
                    writer.mux(packet)
                    written += 1
    except ValueError:
        # PyAV's own, or FFmpeg's "invalid argument"; a full disk is an OSError.
        Path(target).unlink(missing_ok=True)
        raise UncopiedSound(
            f"{source.name}: its kind of sound cannot be copied and is left out; encode it as AAC"
        ) from None
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"{target}: cannot write the sound of {source} ({error.strerror}); free space") from None
    if not written:
        Path(target).unlink(missing_ok=True)
    return written > 0


def _readable(items: Iterator) -> Iterator:
    """`items` up to where the file is damaged."""
    with contextlib.suppress(av.FFmpegError):
        yield from items


def shifted_packets(source, target_stream, start: float) -> Iterator[av.Packet]:
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


def encoded_packets(source, target_stream, start: float) -> Iterator[av.Packet]:
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
