"""From a video file to a capture: two passes over the video, so that memory does not grow with its length."""

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.audio import UncopiedSound, copy_audio
from svp_jax.capture.capture import AUDIO, Capture, CaptureWriter, open_capture
from svp_jax.capture.channel_sheet import CHANNELS, write_channel_sheet
from svp_jax.capture.crop import Crop, choose_crop
from svp_jax.capture.face_fit import check_face, check_pictures, fit_face, imported_face
from svp_jax.capture.face_track import FaceTrack, draw_capture, write_face_track
from svp_jax.capture.options import PrepareOptions
from svp_jax.capture.overlay import TILE, WIDTH, overlay_row
from svp_jax.capture.quality import advice, measure_quality, summary
from svp_jax.capture.second_pass import prepared_frames
from svp_jax.capture.tracks import Tracks, progress, track
from svp_jax.capture.video import Video, constant_rate_map, nominal_rate, open_video
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.errors import UserError
from svp_jax.face.importers.imported import Imported
from svp_jax.face.importers.recognise import import_parameters
from svp_jax.face.morphable.files import face_model_files, face_model_path, open_face_model
from svp_jax.face.morphable.flame import ALL
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.tracked import video_camera
from svp_jax.face.parsers import Parser, open_parser
from svp_jax.face.parsing import LANDMARKS_ONLY
from svp_jax.face.smoothing import smooth_landmarks
from svp_jax.face.tracking import LANDMARKER
from svp_jax.manifest import FACE, check_output, content_sha256, sha256_file, staged_folder
from svp_jax.model_files import find_model


def prepare(video: Path, out: Path, options: PrepareOptions) -> Capture:
    """Makes the capture `out` of a video of one person.

    An interrupted run leaves nothing at `out`, and the next starts again from the beginning.

    Raises:
        UserError: the video cannot be read or shows no face, an option is out of range, a model file is missing,
            the disk refuses a file, or `out` exists and `options.force` is false.
    """
    check_output(out, "capture", options.force)
    source = open_video(video)
    landmarker = find_model(LANDMARKER, options.face_landmarker, "--face-landmarker")
    face_model, face_files = None, []
    if options.face_model != "mediapipe":
        path = face_model_path(options.face_model, options.face_model_file)
        weights = {} if options.face_parameters is None else {"weights": ALL}
        face_model = open_face_model(options.face_model, path, **weights)
        face_files = face_model_files(options.face_model, path)
        check_face(face_model, landmarker)
    imported = None
    if options.face_parameters is not None:
        imported = import_parameters(options.face_parameters, face_model)
        check_pictures(imported, options.face_parameters, source.width, source.height)
        face_model = face_model.sized(imported.parameters)
        face_files.append(options.face_parameters)
    # The folder first: that it cannot be written is known before the long part.
    with open_parser(options.parser) as (name, parser, files), staged_folder(out, "capture", options.force) as folder:
        notes: list[str] = []
        if parser is None:
            _note(notes, LANDMARKS_ONLY)
        for text in () if imported is None else imported.notes:
            _note(notes, text)
        tracks = track(source, options.start, options.stop, landmarker)
        if source.damage:
            notes.append(source.damage)
        models = {path.name: content_sha256(path) for path in (landmarker, *files, *face_files)}
        info = {"face_model": options.face_model, "parser": name, "models": models, "warnings": notes}
        try:
            _write_capture(folder, source, options, tracks, parser, (face_model, imported), landmarker, info)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--out {out}: cannot write ({reason}); free space or choose another folder") from None
    return open_capture(out)


def _write_capture(
    folder: Path,
    source: Video,
    options: PrepareOptions,
    tracks: Tracks,
    parser: Parser | None,
    face: tuple[FaceModel | None, Imported | None],
    landmarker: Path,
    info: dict,
) -> None:
    """The second pass and the files; `info` is for the manifest, its "warnings" are added to."""
    notes = info["warnings"]
    rate = options.rate or nominal_rate(tracks.times, source.frame_rate)
    frame_map = constant_rate_map(tracks.times, rate)
    if options.rate is None:
        _note_rate(notes, frame_map, len(tracks.times), rate)
    smoothed = smooth_landmarks(tracks.landmarks, tracks.motion, tracks.shot, options.smoothing)
    crop = choose_crop(smoothed[tracks.shot >= 0], tracks.window, options.size, options.margin)
    landmarks = crop.points(smoothed)
    seconds = float(len(frame_map) / rate)
    raw = crop.points(tracks.landmarks)
    model, track, fit_quality = _fit(source, options, tracks, crop, rate, landmarks, raw, face, landmarker, notes)
    quality = measure_quality(tracks, smoothed, crop.side, options.size, seconds) | fit_quality
    sentences = advice(quality)
    audio = _copied_sound(source, folder, float(tracks.times[0]), seconds, notes)
    writer = CaptureWriter(folder, options.size)
    drawn = draw_capture(model, track, landmarks, options.size)
    frames = prepared_frames(source, options, tracks.shot, landmarks, crop, parser, drawn)
    _write_images(writer, frames, frame_map, len(tracks.times), rate, audio)
    write_face_track(folder / FACE, track.frames(frame_map))
    write_channel_sheet(folder / CHANNELS, model, track, options.size)
    (folder / "quality.txt").write_text(summary(quality, sentences), encoding="utf-8")
    writer.finish(
        {
            "landmarks": landmarks[frame_map],
            "landmarks_raw": raw[frame_map],
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
            "test_fraction": options.test_fraction,
            "prompt": options.prompt,
            "settings": options.as_json(),
            "quality": quality,
            "advice": sentences,
            **info,
        },
    )


def _fit(
    source: Video,
    options: PrepareOptions,
    tracks: Tracks,
    crop: Crop,
    rate: Fraction,
    landmarks: np.ndarray,
    raw: np.ndarray,
    face: tuple[FaceModel | None, Imported | None],
    landmarker: Path,
    notes: list[str],
) -> tuple[FaceModel, FaceTrack, dict]:
    """`fit_face` in the crop's pixels, on all source frames; `notes` are added to."""
    place = crop.left, crop.top, options.size / crop.side
    face_model, imported = face
    found = None
    if imported is not None:
        total = source.announced or len(tracks.times)
        *found, said = imported_face(imported, options.face_parameters, tracks.times, total, *place)
        for text in said:
            _note(notes, text)
    return fit_face(
        face_model,
        found,
        landmarks,
        raw,
        tracks.blendshapes,
        tuple(tracks.blendshape_names),
        tracks.shot,
        rate,
        video_camera(source.width, source.height, *place),
        landmarker,
    )


def _copied_sound(source: Video, folder: Path, first: float, seconds: float, notes: list[str]) -> Path | None:
    """The file of the video's sound from its time `first` on, or None where it has none or none that can be copied."""
    start = float(source.zero) + first
    try:
        return folder / AUDIO if copy_audio(source.path, folder / AUDIO, start, start + seconds) else None
    except UncopiedSound as reason:
        _note(notes, str(reason))
        return None


def _write_images(
    writer: CaptureWriter,
    frames: Iterator[tuple[int, tuple[np.ndarray, ...], np.ndarray | None]],
    frame_map: np.ndarray,
    count: int,
    rate: Fraction,
    audio: Path | None,
) -> None:
    """The second pass: writes what `prepared_frames` gives as often as the frame map shows it."""
    shown = np.bincount(frame_map, minlength=count)
    path = writer.folder / "overlay.mp4"
    with VideoWriter(path, rate, WIDTH, TILE, audio, crf=23, preset="veryfast") as overlay:
        for number, images, points in progress("parsing", frames, count):
            if shown[number] == 0:
                continue
            row = overlay_row(*images[:3], points)
            for _ in range(shown[number]):
                writer.add(*images)
                overlay.write(row)


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
