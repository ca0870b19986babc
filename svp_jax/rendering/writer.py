"""The files of a render: avatar.mp4 and its frames without loss, side_by_side.mp4 and the parsing maps."""

import contextlib
from pathlib import Path

import numpy as np

from svp_jax.capture.images import caption, labelled, write_png
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.rendering.driver import Driver

COMMENT = "AI-generated video: a synthetic avatar, rendered by svp_jax"
LABEL = "AI-generated"
CAPTION_HEIGHT = 24  # Even, as yuv420p needs.


class PictureWriter:
    """Writes the pictures of a render as images, named by the driver's frame numbers.

    Args:
        folder: the staged folder of the render.
        result: whether there are results, or only parsing maps.
        keep_maps: whether the maps are written.
    """

    def __init__(self, folder: Path, *, result: bool, keep_maps: bool):
        # h264 halves the colours' resolution: scores are taken from these.
        self.frames_folder = folder / "frames" if result else None
        self.maps_folder = folder / "parsing" if keep_maps else None
        for part in (self.frames_folder, self.maps_folder):
            if part:
                part.mkdir(exist_ok=True)

    def write(self, frames: np.ndarray, parsing: np.ndarray, pictures: np.ndarray | None) -> None:
        """As `RenderWriter.write`."""
        for number, frame in enumerate(frames):
            if self.maps_folder:
                write_png(self.maps_folder / f"{frame:06d}.png", parsing[number])
            if pictures is not None:
                self.picture(frame, pictures[number])

    def picture(self, frame: int, picture: np.ndarray) -> None:
        """One result uint8 [S, S, 3]; nothing where there are none."""
        if self.frames_folder:
            write_png(self.frames_folder / f"{frame:06d}.png", picture, comment=COMMENT)


class RenderWriter:
    """Writes pictures as they come, and holds the last one over the driver's frames that are not rendered.

    Use as a context manager: the videos are finished when it is left, and not there after an error.

    Args:
        folder: the staged folder of the render.
        driver: shows its frames (where it has any) and geometry beside the result, and gives frame rate and sound.
        span: the driver's frames that the videos show, one picture each.
        result: whether there are results, or only parsing maps (then there are no avatar.mp4 and no frames).
        keep_maps: whether the parsing maps are written as images, named by the driver's frame number.
        label: whether avatar.mp4 says in the picture that it is AI-generated.
        written: rendered frames before this one have their images already.
    """

    def __init__(
        self,
        folder: Path,
        driver: Driver,
        span: range,
        *,
        result: bool,
        keep_maps: bool,
        label: bool = False,
        written: int = 0,
    ):
        self.driver, self.span, self.next, self.written = driver, span, span.start, written
        self.label = label
        self.images = PictureWriter(folder, result=result, keep_maps=keep_maps)
        size = driver.size
        self.panels = ["geometry", "parsing"]
        if driver.capture is not None:
            self.panels.insert(0, "driver" if driver.posed else "reference")
        if result:
            self.panels.append("result")
        self.captions = np.concatenate([caption(name, size, CAPTION_HEIGHT) for name in self.panels], axis=1)
        # Before the first rendered frame there is nothing to hold.
        self.parsing = self.picture = np.zeros((size, size, 3), np.uint8)
        with contextlib.ExitStack() as videos:
            self.avatar = None
            if result:
                self.avatar = videos.enter_context(self._open(folder / "avatar.mp4", size, size))
            wide = self._open(folder / "side_by_side.mp4", CAPTION_HEIGHT + size, size * len(self.panels))
            self.side_by_side = videos.enter_context(wide)
            # Kept open from here on; an error above has closed what was open.
            self._videos = videos.pop_all()

    def __enter__(self) -> "RenderWriter":
        return self

    def __exit__(self, *error) -> bool | None:
        return self._videos.__exit__(*error)

    def write(self, frames: np.ndarray, parsing: np.ndarray, pictures: np.ndarray | None) -> None:
        """Adds rendered frames.

        Args:
            frames: int [n], the driver's frame numbers, ascending from call to call.
            parsing: uint8 [n, S, S, 3], the parsing maps used.
            pictures: uint8 [n, S, S, 3], the results; None where there are only maps.
        """
        unwritten = frames >= self.written
        self.images.write(frames[unwritten], parsing[unwritten], None if pictures is None else pictures[unwritten])
        for number, frame in enumerate(frames):
            self._hold_until(frame)
            self.parsing = parsing[number]
            if pictures is not None:
                self.picture = pictures[number]
            self._show(frame)

    def finish(self) -> None:
        """Holds the last picture to the end of the span."""
        self._hold_until(self.span.stop)

    def _hold_until(self, stop: int) -> None:
        for frame in range(self.next, stop):
            self.images.picture(frame, self.picture)
            self._show(frame)

    def _show(self, frame: int) -> None:
        images = {"geometry": self.driver.geometry([frame])[0], "parsing": self.parsing, "result": self.picture}
        if self.driver.capture is not None:
            images[self.panels[0]] = self.driver.capture.frames([frame])[0]
        row = np.concatenate([images[name] for name in self.panels], axis=1)
        self.side_by_side.write(np.concatenate([self.captions, row]))
        if self.avatar:
            self.avatar.write(labelled(self.picture, LABEL) if self.label else self.picture)
        self.next = frame + 1

    def _open(self, path: Path, height: int, width: int) -> VideoWriter:
        return VideoWriter(
            path,
            self.driver.frame_rate,
            width,
            height,
            audio=self.driver.audio_path,
            audio_start=float(self.span.start / self.driver.frame_rate),
            metadata={"comment": COMMENT},
        )
