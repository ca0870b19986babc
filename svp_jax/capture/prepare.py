"""From a video file to a capture: two passes over the video, so that memory does not grow with its length."""

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from svp_jax.capture.capture import AUDIO, Capture, CaptureWriter, check_size, open_capture
from svp_jax.capture.crop import BlackBars, Crop, choose_crop
from svp_jax.capture.overlay import TILE, overlay_row
from svp_jax.capture.quality import advice, measure_quality, sharpness, summary
from svp_jax.capture.video import Video, VideoWriter, constant_rate_map, copy_audio, open_video
from svp_jax.errors import UserError
from svp_jax.face.labels import colorize
from svp_jax.face.mediapipe_mesh import iris_map, render_geometry
from svp_jax.face.parsers import Parser, open_parser
from svp_jax.face.parsing import LANDMARKS_ONLY, guessed_scores, parsing_labels, smooth_scores
from svp_jax.face.smoothing import SIGMA, MotionMeter, find_shots, smooth_landmarks
from svp_jax.face.tracking import BLENDSHAPES, LANDMARKS, PersonFollower, face_tracker
from svp_jax.manifest import check_output, sha256_file, staged_folder


@dataclass(frozen=True)
class PrepareOptions:
    """What a user can choose about a capture.

    Attributes:
        size: width and height of the images, a multiple of 64.
        face_landmarker: path of face_landmarker.task; None looks in $SVP_MODELS and ~/.cache/svp_jax.
        parser: a .yaml description of an ONNX parser, a MediaPipe .tflite segmenter, "landmarks", or None for
            the first of these whose model is there.
        smoothing: how far the tracker's noise is averaged, sigma in frames; 0 turns it off.
        margin: factor on the room around the face in the crop.
        test_fraction: last part of the clip that is held out.
        start, seconds: part of the video to use; seconds None uses all of it.
        frame_rate: of the capture, such as 25 or 30000/1001; None keeps the video's own.
        prompt: text that describes the person, stored for training.
        force: replace a finished capture at the same place.
    """

    size: int = 512
    face_landmarker: Path | None = None
    parser: str | None = None
    smoothing: float = SIGMA
    margin: float = 1.0
    test_fraction: float = 0.2
    start: float = 0.0
    seconds: float | None = None
    frame_rate: Fraction | None = None
    prompt: str | None = None
    force: bool = False

    def check(self) -> None:
        """Raises UserError for a value that is out of range."""
        check_size(self.size)
        ranges = {
            "smoothing": (0, 20), "margin": (0, 5), "test_fraction": (0, 0.9), "start": (0, 1e6)
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {getattr(self, name)}: allowed are values from {low} to {high}")
        if self.seconds is not None and self.seconds <= 0:
            raise UserError(f"--seconds {self.seconds}: allowed are positive numbers")
        if self.frame_rate is not None and not 1 <= self.frame_rate <= 240:
            raise UserError(f"--frame-rate {self.frame_rate}: allowed are 1 to 240")


@dataclass
class Tracks:
    """What the first pass finds out about N source frames; rows without a face are not a number.

    Attributes:
        times: presentation times in seconds, [N].
        landmarks: [N, 478, 3] in pixels of the source. blendshapes: [N, 52]. pose: [N, 4, 4].
        motion: [N, 478, 2], see `MotionMeter.motion`. cut: bool [N]. sharpness: [N].
        shot: int32 [N], see `find_shots`.
        window: left, top, right, bottom of the picture without black bars.
    """

    times: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray
    motion: np.ndarray
    cut: np.ndarray
    sharpness: np.ndarray
    shot: np.ndarray
    blendshape_names: list[str]
    frames_with_others: int
    window: tuple[int, int, int, int]


def prepare(video: Path, out: Path, options: PrepareOptions = PrepareOptions()) -> Capture:
    """Makes the capture `out` of a video of one person.

    An interrupted run leaves `OUT.partial`, and starts again from the beginning.

    Raises:
        UserError: the video cannot be read, shows no face, an option is out of range, a model file is missing,
            or `out` exists and `options.force` is false.
    """
    options.check()
    check_output(out, options.force)
    source = open_video(video)
    notes: list[str] = []
    with open_parser(options.parser) as (parser_name, parser):
        if parser is None:
            _note(notes, LANDMARKS_ONLY)
        tracks = track(source, options)
        if source.damage:
            notes.append(source.damage)
        if not (tracks.shot >= 0).any():
            raise UserError(
                f"{source.path}: no face in any of its {len(tracks.times)} frames; "
                "give a video that shows one person's face from the front"
            )
        rate = options.frame_rate or source.frame_rate
        frame_map = constant_rate_map(tracks.times, rate)
        _note_rate(notes, frame_map, len(tracks.times), rate)
        smoothed = smooth_landmarks(tracks.landmarks, tracks.motion, tracks.shot, options.smoothing)
        usable = tracks.shot >= 0
        crop = choose_crop(smoothed[usable], tracks.window, options.size, options.margin)
        quality = measure_quality(tracks, smoothed, crop.side, options.size, float(len(frame_map) / rate))
        sentences = advice(quality)
        with staged_folder(out, options.force) as folder:
            landmarks = crop.points(smoothed)
            start = float(tracks.times[0])
            if source.has_audio:
                copy_audio(source.path, folder / AUDIO, start, start + float(len(frame_map) / rate))
            writer = CaptureWriter(folder, options.size)
            _write_images(source, options, tracks, landmarks, crop, frame_map, rate, parser, writer)
            (folder / "quality.txt").write_text(summary(quality, sentences), encoding="utf-8")
            writer.finish(
                {
                    "landmarks": landmarks[frame_map],
                    "landmarks_raw": crop.points(tracks.landmarks)[frame_map],
                    "blendshapes": tracks.blendshapes[frame_map],
                    "blendshape_names": np.array(tracks.blendshape_names),
                    "pose": tracks.pose[frame_map],
                    "shot": tracks.shot[frame_map],
                    "source_frame": frame_map,
                    "source_time": tracks.times[frame_map],
                },
                {
                    "source": {
                        "name": source.path.name,
                        "sha256": sha256_file(source.path),
                        "size": [source.width, source.height],
                        "crop": [crop.left, crop.top, crop.side],
                    },
                    "frame_rate": rate,
                    "face_model": "mediapipe",
                    "parser": parser_name,
                    "test_fraction": options.test_fraction,
                    "captions": [options.prompt] if options.prompt else [],
                    "settings": {
                        name: value if isinstance(value, int | float | None) else str(value)
                        for name, value in asdict(options).items()
                    },
                    "quality": quality,
                    "advice": sentences,
                    "warnings": notes,
                },
            )
    return open_capture(out)


def track(source: Video, options: PrepareOptions) -> Tracks:
    """The first pass: finds the same person's face in every frame."""
    rows: dict[str, list] = {name: [] for name in ("times", "landmarks", "blendshapes", "pose", "motion")}
    cuts, sharp = [], []
    meter, follower = MotionMeter(), PersonFollower(source.width, source.height)
    bars = BlackBars(source.height, source.width)
    unknown = np.full((LANDMARKS, 2), np.nan, np.float32)
    with face_tracker(options.face_landmarker) as tracker:
        for time, image in _progress("tracking", _frames(source, options), source.announced):
            cut = meter.cut(image)
            face = follower.pick(tracker.detect(image, time), cut)
            motion = meter.motion(image, None if face is None else face.landmarks)
            bars.add(image)
            rows["times"].append(time)
            rows["motion"].append(unknown if motion is None else motion)
            rows["landmarks"].append(np.full((LANDMARKS, 3), np.nan) if face is None else face.landmarks)
            rows["blendshapes"].append(np.zeros(BLENDSHAPES) if face is None else face.blendshapes)
            rows["pose"].append(np.full((4, 4), np.nan) if face is None else face.pose)
            cuts.append(cut)
            sharp.append(0.0 if face is None else sharpness(image, face.box))
        names = tracker.blendshape_names
    if not cuts:
        raise UserError(f"{source.path}: no frame between --start {options.start} and its end")
    arrays = {
        name: np.array(values, np.float64 if name == "times" else np.float32) for name, values in rows.items()
    }
    return Tracks(
        **arrays,
        cut=np.array(cuts),
        sharpness=np.array(sharp),
        shot=find_shots(arrays["landmarks"], np.array(cuts)),
        blendshape_names=names,
        frames_with_others=follower.frames_with_others,
        window=bars.window(),
    )


def _write_images(source, options, tracks, landmarks, crop, frame_map, rate, parser, writer) -> None:
    """The second pass: crops, parses and renders, frame by frame."""
    shown = np.bincount(frame_map, minlength=len(tracks.times))
    empty = np.zeros((options.size, options.size, 3), np.uint8)
    overlay = VideoWriter(
        writer.folder / "overlay.mp4", rate, 4 * TILE, TILE, _audio(writer.folder), crf=23, preset="veryfast"
    )
    scored = _scored_frames(source, options, tracks, landmarks, crop, parser)
    with overlay:
        for number, image, scores in _progress("parsing", _smoothed_in_time(scored, tracks.shot), len(shown)):
            if shown[number] == 0:
                continue
            points = landmarks[number]
            if scores is None:
                points, parsing, geometry, iris = None, empty, empty, empty
            else:
                parsing = colorize(parsing_labels(scores, points))
                geometry = render_geometry(points, options.size)
                iris = iris_map(points, options.size)
            row = overlay_row(image, parsing, geometry, points)
            for _ in range(shown[number]):
                writer.add(image, parsing, geometry, iris)
                overlay.write(row)


def _scored_frames(
    source: Video,
    options: PrepareOptions,
    tracks: Tracks,
    landmarks: np.ndarray,
    crop: Crop,
    parser: Parser | None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """(number, crop, the parser's scores at the capture's size or None without a face) of each source frame."""
    # The count first: asking for one frame more would meet the damage of a broken file again.
    for number, (_, frame) in zip(range(len(tracks.times)), _frames(source, options), strict=False):
        scores = None
        if tracks.shot[number] >= 0:
            if parser is None:
                scores = guessed_scores(landmarks[number], options.size)
            else:
                scores = parser(crop.image(frame, crop.side), options.size)
        yield number, crop.image(frame), scores


def _smoothed_in_time(scored, shot: np.ndarray):
    """The same triples, one frame late, with scores averaged over neighbours of the same shot."""
    before, now = None, None
    for after in _with_end(scored):
        if now is not None:
            number, image, scores = now
            neighbours = [
                item[2] if item is not None and shot[item[0]] == shot[number] else None
                for item in (before, after)
            ]
            yield (
                number,
                image,
                None if scores is None else smooth_scores(neighbours[0], scores, neighbours[1]),
            )
        before, now = now, after


def _with_end(items):
    yield from items
    yield None


def _frames(source: Video, options: PrepareOptions) -> Iterator[tuple[float, np.ndarray]]:
    stop = float("inf") if options.seconds is None else options.start + options.seconds
    return source.frames(options.start, stop)


def _audio(folder: Path) -> Path | None:
    return folder / AUDIO if (folder / AUDIO).exists() else None


def _progress(name: str, items, total: int):
    # No bar where nobody watches it, such as in tests and log files.
    return tqdm(items, name, total or None, unit="frame", disable=None, leave=False)


def _note(notes: list[str], text: str) -> None:
    notes.append(text)
    warnings.warn(text, stacklevel=3)


def _note_rate(notes: list[str], frame_map: np.ndarray, count: int, rate: Fraction) -> None:
    if len(frame_map) == count and (frame_map == np.arange(count)).all():
        return
    used = len(np.unique(frame_map))
    _note(
        notes,
        f"times are not those of {rate} frames/s: made constant, {len(frame_map) - used} frames repeated and "
        f"{count - used} left out (see source_frame in tracking.npz)",
    )
