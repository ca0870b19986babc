"""Opens what the user drives an avatar with: a capture, a file of parameters, or a script of keyframes."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.face_track import FaceTrack, read_face_track
from svp_jax.errors import UserError
from svp_jax.face.control.channels import apply
from svp_jax.face.control.retarget import Actor, neutral_of, retarget
from svp_jax.face.control.script import FRAME_RATE, parse_settings, read_script
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.manifest import FACE, sha256_file
from svp_jax.rendering.driver import Driver, Posed, of_capture
from svp_jax.rendering.options import RenderOptions


def open_driver(avatar: Path, manifest: dict, path: Path, options: RenderOptions) -> Driver:
    """The driver at `path`.

    The avatar's own capture drives it as it is, another one by its motion relative to each person's neutral face;
    `options.motion` decides otherwise. Files always move the avatar's own face.

    Args:
        avatar: its folder, with `face.npz` of the capture it was trained on. manifest: avatar.json.

    Raises:
        UserError: `path` is no driver, has no frames, or needs a face model that the avatar or it does not have.
    """
    path = Path(path)
    settings = parse_settings(options.set)
    if path.is_dir():
        return _captured(avatar, manifest, open_capture(path), settings, options)
    if not path.is_file():
        raise UserError(
            f"{path}: no such driver; give a capture, a file of parameters (.npz) or a script (.csv, .yaml)"
        )
    if options.maps == "driver":
        raise UserError(f"--maps driver needs a capture, {path} has no parsing maps; leave it out")
    face, person = _own_face(avatar, options)
    if path.suffix != ".npz":
        script = read_script(path)
        script.check(person.model)
        rate = script.frame_rate
        count = int(script.seconds * rate) + 1
        rest = person.neutral.frames(np.zeros(count, int))
        motion = apply(script.sampled(rate, count), rest, person.neutral, person.model, str(path))
    else:
        rate = FRAME_RATE
        track = read_face_track(path)
        if not len(track.parameters):
            raise UserError(f"{path} has no frames; give a face.npz of a capture")
        motion = _relative(track, person, options)
    count = len(motion)
    motion = _with_settings(settings, motion, person)
    return Driver(
        path=path,
        sha256=sha256_file(path),
        size=manifest["capture"]["size"],
        frame_rate=rate,
        shot=np.zeros(count, np.int32),
        split={"test": [0, count]},
        face_model=face.model_name,
        posed=Posed(person.model, motion, face.camera, manifest["capture"]["size"]),
    )


def _captured(
    avatar: Path, manifest: dict, capture: Capture, settings: dict[str, float], options: RenderOptions
) -> Driver:
    own = capture.manifest["manifest_sha256"] == manifest["capture"]["manifest_sha256"]
    relative = options.motion == "relative" or (options.motion == "auto" and not own)
    driver = of_capture(capture)
    if relative and options.motion == "auto" and not settings and not _both_fitted(avatar, capture):
        warnings.warn(
            f"{capture.folder} or {avatar} was made without a fitted face model: the driver's own face shape is drawn; "
            "prepare both videos again for motion relative to each person's neutral face",
            stacklevel=3,
        )
        relative = False
    if not relative and not settings:
        return driver
    track = read_face_track(capture.folder / FACE)
    if relative:
        face, person = _own_face(avatar, options)
        motion, camera, name = _relative(track, person, options, capture.usable), face.camera, face.model_name
    else:
        person = _actor(track, options)
        motion, camera, name = track.parameters, track.camera, track.model_name
    motion = _with_settings(settings, motion, person)
    return replace(driver, face_model=name, posed=Posed(person.model, motion, camera, capture.size))


def _both_fitted(avatar: Path, capture: Capture) -> bool:
    return (Path(avatar) / FACE).is_file() and (capture.folder / FACE).is_file()


def _own_face(avatar: Path, options: RenderOptions) -> tuple[FaceTrack, Actor]:
    path = Path(avatar) / FACE
    if not path.is_file():
        raise UserError(
            f"{avatar} has no {FACE}: it was trained on a capture without a fitted face model, so only captures drive "
            "it; train it on one that has (svp prepare VIDEO, or svp prepare CAPTURE --face-model ict)"
        )
    face = read_face_track(path)
    return face, _actor(face, options)


def _actor(track: FaceTrack, options: RenderOptions) -> Actor:
    return Actor(
        track.model(options.face_model_file), neutral_of(track.parameters, np.ones(len(track.parameters), bool))
    )


def _relative(
    track: FaceTrack, person: Actor, options: RenderOptions, usable: np.ndarray | None = None
) -> FaceParameters:
    """The motion of `track`, at rest in the frames `usable`, on `person`."""
    usable = np.ones(len(track.parameters), bool) if usable is None else usable
    model, alike = person.model, track.person is None and track.model_name == person.model.name
    # A model in files is opened once: it takes seconds.
    if not alike or (model.identity_size, len(model.channels)) != track.weights:
        model = track.model(options.face_model_file if alike else None)
    return retarget(track.parameters, Actor(model, neutral_of(track.parameters, usable)), person)


def _with_settings(settings: dict[str, float], motion: FaceParameters, person: Actor) -> FaceParameters:
    """`motion` with the degrees of freedom of --set fixed."""
    return apply(settings, motion, person.neutral, person.model, "--set")
