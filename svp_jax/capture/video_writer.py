"""Video files written with PyAV: h264 at an exact frame rate, with the sound of another file."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from svp_jax.capture.audio import encoded_packets, shifted_packets
from svp_jax.errors import UserError

# Sound that an mp4 can carry as it is; any other is encoded again.
MP4_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
# x264's analysis over macroblock trees reads memory that nobody wrote where it uses AVX-512 (x264 as in PyAV 18), so
# that the same pictures give other bytes. Without it they give the same, in files that are a tenth larger.
X264 = "mbtree=0"
AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}  # Hertz; it has more, players do not.


class VideoWriter:
    """Writes an mp4: h264, yuv420p, BT.709, exact frame rate, sound copied; appears under its name when closed.

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
        key_frame_every: at most so many frames from one that can be decoded by itself to the next: few for a file
            that is sought in. None: x264's own choice, up to 250.
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
        key_frame_every: int | None = None,
    ):
        self.path, self.rate, self.size = Path(path), Fraction(frame_rate), (height, width)
        self.count = 0
        # The suffix stays last: it chooses the container.
        self._partial = self.path.with_name(self.path.stem + ".partial" + self.path.suffix)
        flags = {"movflags": "+faststart+use_metadata_tags"}
        self._container = av.open(str(self._partial), "w", options=flags)
        self._container.metadata.update(metadata or {})
        self._stream = self._container.add_stream(
            "libx264", rate=self.rate, options={"crf": str(crf), "preset": preset, "x264-params": X264}
        )
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / self.rate
        if key_frame_every is not None:
            context.gop_size = key_frame_every
        # Players guess the colours of an untagged video by its size.
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._source, self._packets, self._next_packet = None, iter(()), None
        try:
            if audio is not None:
                self._add_audio(Path(audio), audio_start)
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
        # One thread: more are started anew for each frame, which takes longer than the work.
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        frame.pts, frame.time_base = self.count, 1 / self.rate
        self.count += 1
        self._mux(self._stream.encode(frame))
        self._mux_audio(self.count / self.rate)

    def close(self) -> None:
        """Finishes the file and gives it its name; an error leaves no file."""
        try:
            self._mux(self._stream.encode())
            self._mux_audio(self.count / self.rate, last=True)
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
            self._packets = shifted_packets(self._source, target, start)
        else:
            rate = source.codec_context.sample_rate
            rate = rate if rate in AAC_RATES else max(AAC_RATES)
            layout = "mono" if source.codec_context.channels == 1 else "stereo"
            target = self._container.add_stream("aac", rate=rate, layout=layout)
            self._packets = encoded_packets(self._source, target, start)
        self._next_packet = next(self._packets, None)

    def _mux_audio(self, until: Fraction, last: bool = False) -> None:
        """Writes the packets that end by `until`; with `last` also the one that goes on after it, shortened."""
        while self._next_packet is not None:
            packet = self._next_packet
            # A packet may last for several frames (FLAC's 100 ms): the sound would end that much after the picture.
            remaining = round(until / packet.time_base) - packet.pts
            if remaining <= 0 or (remaining < packet.duration and not last):
                return
            packet.duration = min(packet.duration, remaining)
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
