"""`svp prepare CAPTURE`: another face model for a capture, whose frames, tracking and parsing maps stay."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import AUDIO, Capture, CaptureWriter, open_capture
from svp_jax.capture.channel_sheet import CHANNELS, write_channel_sheet
from svp_jax.capture.face_fit import fit_face
from svp_jax.capture.face_track import FaceTrack, draw_capture, write_face_track
from svp_jax.capture.options import PrepareOptions
from svp_jax.capture.overlay import TILE, WIDTH, overlay_row
from svp_jax.capture.quality import summary
from svp_jax.capture.tracks import progress
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.errors import UserError
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.files import face_model_files, face_model_path, open_face_model
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.multi_pie import COUNT
from svp_jax.face.morphable.tracked import video_camera
from svp_jax.face.tracking import LANDMARKER
from svp_jax.manifest import CHECKSUM, FACE, body_of, check_output, content_sha256, staged_folder
from svp_jax.model_files import find_model

# What the other options decide is in the capture already.
_USED = ("face_model", "face_model_file", "face_landmarker", "force")


def refit(folder: Path, out: Path, options: PrepareOptions) -> Capture:
    """Makes the capture `out` of the capture `folder`, with the face model of `options`.

    Raises:
        UserError: `folder` is no capture or lacks what the face model needs, an option has no meaning here, a model
            file is missing, or `out` exists and `options.force` is false.
    """
    for field in dataclasses.fields(options):
        if field.name not in _USED and getattr(options, field.name) != field.default:
            raise UserError(f"--{field.name.replace('_', '-')} has no meaning for a capture; leave it out")
    check_output(out, "capture", options.force)
    capture = open_capture(folder)
    synthetic = capture.landmarks.shape[1] == COUNT
    if synthetic and options.face_model == "mediapipe":
        raise UserError(f"{folder} has no landmarks of MediaPipe; choose --face-model ict or flame")
    model, landmarker, files = None, None, []
    if not synthetic:
        landmarker = find_model(LANDMARKER, options.face_landmarker, "--face-landmarker")
    if options.face_model != "mediapipe":
        path = face_model_path(options.face_model, options.face_model_file)
        model, files = open_face_model(options.face_model, path), face_model_files(options.face_model, path)
        if landmarker is not None:
            files.append(landmarker)
    model, track, quality = fit_capture(capture, model, landmarker)
    drawn = draw_capture(model, track, capture.landmarks, capture.size)
    body = body_of(capture.manifest)
    given = options.as_json()
    # What another tracker found is not used here.
    chosen = {name: given[name] for name in ("face_model", "face_model_file")} | {"face_parameters": None}
    body |= {
        "face_model": options.face_model,
        "settings": body["settings"] | chosen,
        "models": {**body.get("models", {}), **{path.name: content_sha256(path) for path in files}},
        "quality": body["quality"] | quality,
        "refitted_from": capture.manifest[CHECKSUM],
    }
    with staged_folder(out, "capture", options.force) as staged:
        if capture.audio_path is not None:
            shutil.copy(capture.audio_path, staged / AUDIO)
        writer = CaptureWriter(staged, capture.size)
        _write_images(writer, capture, drawn)
        write_face_track(staged / FACE, track)
        write_channel_sheet(staged / CHANNELS, model, track, capture.size)
        (staged / "quality.txt").write_text(summary(body["quality"], body.get("advice", [])), encoding="utf-8")
        writer.finish(capture.tracking(), body)
    return open_capture(out)


def fit_capture(
    capture: Capture, model: FaceModel | None, landmarker: Path | None
) -> tuple[FaceModel, FaceTrack, dict]:
    """`fit_face` on the tracking of a capture."""
    tracking = capture.tracking()
    return fit_face(
        model,
        None,
        capture.landmarks,
        tracking["landmarks_raw"],
        tracking["blendshapes"],
        tuple(str(name) for name in tracking["blendshape_names"]),
        capture.shot,
        capture.frame_rate,
        capture_camera(capture),
        landmarker,
    )


def capture_camera(capture: Capture) -> Camera:
    """The camera before which the faces of a capture stand, in pixels of its images."""
    if known := capture.manifest.get("camera"):
        return Camera(np.float32(known["focal"]), np.array(known["centre"], np.float32))
    source = capture.manifest["source"]
    left, top, side = source["crop"]
    return video_camera(*source["size"], left, top, capture.size / side)


def _write_images(writer: CaptureWriter, capture: Capture, drawn) -> None:
    empty = np.zeros((capture.size, capture.size, 3), np.uint8)
    with VideoWriter(
        writer.folder / "overlay.mp4", capture.frame_rate, WIDTH, TILE, capture.audio_path, crf=23, preset="veryfast"
    ) as overlay:
        for number, (geometry, iris) in progress("drawing", enumerate(drawn), capture.frame_count):
            usable = capture.shot[number] >= 0
            images = (geometry, iris) if usable else (empty, empty)
            frame, parsing = capture.frames([number])[0], capture.parsing([number])[0]
            writer.add(frame, parsing, *images)
            overlay.write(overlay_row(frame, parsing, images[0], capture.landmarks[number] if usable else None))
