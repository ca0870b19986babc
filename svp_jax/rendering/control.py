"""Opens what the user drives an avatar with: a capture, a file of parameters, or a script of keyframes."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.face_track import FaceTrack, read_face_track
from svp_jax.errors import UserError
from svp_jax.face.control.channels import apply, resolve
from svp_jax.face.control.retarget import Actor, neutral_of, retarget
from svp_jax.face.control.script import parse_settings, read_script
from svp_jax.face.morphable.files import FILE_MODELS
from svp_jax.face.morphable.mediapipe import MediaPipeFace
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.manifest import FACE, sha256_file
from svp_jax.rendering.driver import Driver, Posed, of_capture
from svp_jax.rendering.options import RenderOptions

_FAINT = 0.1  # The highest score of a channel that its clip hardly shows.


def open_driver(avatar: Path, manifest: dict, path: Path, options: RenderOptions) -> Driver:
    """The driver at `path`.

    A capture that the avatar was trained on drives it as it is, another one by its motion relative to each person's
    neutral face; `options.motion` decides otherwise. Files always move the avatar's own face.

    Args:
        avatar: its folder, with `face.npz` of the first capture it was trained on. manifest: avatar.json.

    Raises:
        UserError: `path` is no driver or has no frames, an option has no meaning for it, or it needs a face model that
            the avatar or it does not have.
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
    if options.motion == "absolute":
        raise UserError(f"--motion absolute needs a capture, {path} moves the avatar's own face; leave it out")
    face = _own_face(avatar)
    if path.suffix == ".npz":
        track = read_face_track(path)
        person, motion = _relative(track, path, face, options)
        rate, shot = track.frame_rate, _shots(track.usable)
    else:
        script = read_script(path)
        person = _actor(face, options, face.model_name)
        script.check(person.model)
        rate, shot = script.frame_rate, np.zeros(script.frame_count(), np.int32)
        rest = person.neutral.frames(np.zeros(len(shot), int))
        motion = apply(script.sampled(rate, len(shot)), rest, person.neutral, person.model, str(path))
        _warn_of_unseen(script.keys, person.model)
    motion = _with_settings(settings, motion, person)
    return Driver(
        path=path,
        sha256=sha256_file(path),
        size=manifest["captures"][0]["size"],
        frame_rate=rate,
        shot=shot,
        split={"test": [0, len(shot)]},
        face_model=face.model_name,
        posed=Posed(person.model, motion, face.camera, manifest["captures"][0]["size"]),
    )


def _captured(
    avatar: Path, manifest: dict, capture: Capture, settings: dict[str, float], options: RenderOptions
) -> Driver:
    own = capture.manifest["manifest_sha256"] in {each["manifest_sha256"] for each in manifest["captures"]}
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
        _check_model_file(options, driver.face_model)
        return driver
    path = capture.folder / FACE
    track = read_face_track(path)
    if relative:
        face = _own_face(avatar)
        person, motion = _relative(track, path, face, options)
        camera, name = face.camera, face.model_name
    else:
        person = _actor(track, options, track.model_name)
        motion, camera, name = track.parameters, track.camera, track.model_name
    motion = _with_settings(settings, motion, person)
    return replace(driver, face_model=name, posed=Posed(person.model, motion, camera, capture.size))


def _both_fitted(avatar: Path, capture: Capture) -> bool:
    return (Path(avatar) / FACE).is_file() and (capture.folder / FACE).is_file()


def _own_face(avatar: Path) -> FaceTrack:
    path = Path(avatar) / FACE
    if not path.is_file():
        raise UserError(
            f"{avatar} has no {FACE}: it was trained on a capture without a fitted face model, so only captures drive "
            "it; train it on one that has (svp prepare VIDEO, or svp prepare CAPTURE --face-model ict)"
        )
    return read_face_track(path)


def _actor(track: FaceTrack, options: RenderOptions, *names: str) -> Actor:
    """The person of `track`; `names`: of all face models that are opened."""
    _check_model_file(options, *names)
    return Actor(track.model(options.face_model_file), neutral_of(track.parameters, track.usable))


def _relative(track: FaceTrack, path: Path, face: FaceTrack, options: RenderOptions) -> tuple[Actor, FaceParameters]:
    """(the avatar's person, on whom the motion of `track` is).

    Args:
        track: of the driver, read from `path`. face: of the avatar.
    """
    person = _actor(face, options, face.model_name, track.model_name)
    driver = Actor(_drivers_model(track, path, person.model, options), neutral_of(track.parameters, track.usable))
    return person, retarget(track.parameters, driver, person)


def _drivers_model(track: FaceTrack, path: Path, own: FaceModel, options: RenderOptions) -> FaceModel:
    """The face model of the driver's `track`, where the avatar's is `own`."""
    if track.person is not None:
        return track.person
    if track.model_name == own.name == "flame" and (own.identity_size, len(own.channels)) != track.weights:
        return track.model(options.face_model_file)
    if track.model_name == own.name:
        # A model in files is opened once: it takes seconds.
        track.check_sizes(own, path)
        return own
    if own.name in FILE_MODELS:
        raise UserError(
            f"{path} was made with the face model {track.model_name}, the avatar with {own.name}: they name no "
            f"expression alike; prepare the driver with --face-model {own.name}"
        )
    return track.model(options.face_model_file)


def _check_model_file(options: RenderOptions, *names: str) -> None:
    """UserError where --face-model-file is given and none of the face models `names` has a file."""
    if options.face_model_file is not None and not {*FILE_MODELS} & {*names}:
        raise UserError(
            f"--face-model-file belongs to the face models {' and '.join(FILE_MODELS)}, here it is "
            f"{' and '.join(dict.fromkeys(names))}; leave it out"
        )


def _shots(usable: np.ndarray) -> np.ndarray:
    """As of a capture: int32 [N], -1 for frames without a face, a new number after each gap."""
    return np.where(usable, np.cumsum(~usable), -1).astype(np.int32)


def _with_settings(settings: dict[str, float], motion: FaceParameters, person: Actor) -> FaceParameters:
    """`motion` with the degrees of freedom of --set fixed."""
    motion = apply(settings, motion, person.neutral, person.model, "--set")
    _warn_of_unseen(settings, person.model)
    return motion


def _warn_of_unseen(names: Iterable[str], model: FaceModel) -> None:
    """Warns where `names` set channels that the clip which `model` was made of hardly shows."""
    if not isinstance(model, MediaPipeFace):
        return
    targets = [target for target in (resolve(name, model) for name in names) if target.part == "expression"]
    faint = {model.channels[index] for target in targets for index in target.indices if model.seen[index] < _FAINT}
    if faint:
        warnings.warn(
            f"{', '.join(sorted(faint))}: the clip that the avatar's face model was made of hardly shows it, so little "
            "will move; prepare that clip with --face-model ict for channels that it does not show",
            stacklevel=4,
        )
