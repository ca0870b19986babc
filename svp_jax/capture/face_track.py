"""The posed face model of a capture: who the person is, how it moves, and before which camera.

A capture keeps it in face.npz; an avatar keeps the one of the capture it was trained on, to be moved by others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.arrays import Layout, checked_array
from svp_jax.face.mediapipe_mesh import iris_map, render_geometry
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.drawing import condition_images
from svp_jax.face.morphable.embedding import at_vertices
from svp_jax.face.morphable.files import FILE_MODELS, face_model_path, open_face_model
from svp_jax.face.morphable.mediapipe import MediaPipeFace
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.multi_pie import COUNT
from svp_jax.face.morphable.parameters import FaceParameters, check_finite
from svp_jax.face.pickles import load_npz
from svp_jax.face.tracking import LANDMARKS

MODELS = ("mediapipe", *FILE_MODELS)
_CHUNK = 16  # Frames that are posed at a time.
_PARAMETERS = tuple(field.name for field in fields(FaceParameters))
# N frames, I identity and E expression weights.
_LAYOUT: Layout = {
    "model_name": ("U", ()),
    "frame_rate": ("U", ()),
    "usable": ("b", ("N",)),
    "identity": ("f", ("I",)),
    "expression": ("f", ("N", "E")),
    "jaw": ("f", ("N", 3)),
    "neck": ("f", ("N", 3)),
    "eyes": ("f", ("N", 2, 3)),
    "rotation": ("f", ("N", 3)),
    "translation": ("f", ("N", 3)),
    "focal": ("f", ()),
    "centre": ("f", (2,)),
}
# Arrays of a MediaPipeFace, which is no file of its own.
_PERSON: Layout = {
    "person_mean": ("f", (LANDMARKS, 3)),
    "person_basis": ("f", ("E", LANDMARKS, 3)),
    "person_turned_by": ("iu", (LANDMARKS,)),
    "person_eye_centre": ("f", (2, 3)),
    "person_seen": ("f", ("E",)),
    "person_places": ("iu", (COUNT,)),
    "person_channels": ("U", ("E",)),
}
# The highest index that each may hold.
_HIGHEST = {"person_turned_by": 2, "person_places": LANDMARKS - 1}
_AGAIN = "prepare the video again, and train an avatar again on the new capture"


@dataclass(frozen=True)
class FaceTrack:
    """A face model over the N frames of a capture.

    Attributes:
        model_name: one of `MODELS`.
        camera: in pixels of the capture's images.
        frame_rate: of the capture.
        usable: bool [N], the frames that have a face.
        person: of "mediapipe", the model itself; None for models that have files.
    """

    model_name: str
    parameters: FaceParameters
    camera: Camera
    frame_rate: Fraction
    usable: np.ndarray
    person: MediaPipeFace | None = None

    @property
    def weights(self) -> tuple[int, int]:
        """Numbers of identity and expression weights."""
        return len(self.parameters.identity), self.parameters.expression.shape[1]

    def frames(self, indices) -> "FaceTrack":
        """The same person in the frames `indices` (anything that indexes an array)."""
        return replace(self, parameters=self.parameters.frames(indices), usable=self.usable[indices])

    def model(self, given: Path | None = None) -> FaceModel:
        """The model, read from its files, with the numbers of weights that the parameters have.

        Args:
            given: where they are, None to look for them.

        Raises:
            UserError: they are not there, are no such model, or one of other sizes.
        """
        if self.person is not None:
            return self.person
        path = face_model_path(self.model_name, given)
        model = open_face_model(self.model_name, path, self.weights)
        self.check_sizes(model, path)
        return model

    def check_sizes(self, model: FaceModel, where: Path) -> None:
        """UserError that begins with `where` unless `model` has as many weights as the parameters."""
        if (model.identity_size, len(model.channels)) != self.weights:
            raise UserError(
                f"{where}: the face model has {model.identity_size} identity and {len(model.channels)} expression "
                f"weights, the parameters were fitted with {self.weights[0]} and {self.weights[1]}; give the face "
                "model that they were made with"
            )


def write_face_track(path: Path, track: FaceTrack) -> None:
    """Writes `track` into the npz file `path`."""
    arrays = track.parameters.arrays() | {
        "model_name": np.array(track.model_name),
        "frame_rate": np.array(str(track.frame_rate)),
        "usable": np.asarray(track.usable, bool),
        "focal": np.float32(track.camera.focal),
        "centre": np.asarray(track.camera.centre, np.float32),
    }
    if track.person is not None:
        person = track.person
        content = (
            person.mean, person.basis, person.turned_by, person.eye_centre, person.seen,
            person.landmarks.corners[:, 0], np.array(person.channels),
        )  # fmt: skip
        arrays |= {name: np.asarray(array) for name, array in zip(_PERSON, content, strict=True)}
    np.savez_compressed(path, **arrays)


def read_face_track(path: Path) -> FaceTrack:
    """Reads what `write_face_track` wrote.

    Raises:
        UserError: the file is missing or damaged; an array is missing, of another kind or shape than it should be, or
            holds numbers that are not finite; the face model is unknown; there is no frame with a face.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    content = load_npz(path)
    sizes: dict[str, int] = {}
    arrays = _arrays(content, _LAYOUT, sizes, path)
    name = str(arrays["model_name"])
    if name not in MODELS:
        raise UserError(f"{path}: model_name is {name!r}, allowed are {', '.join(MODELS)}; {_AGAIN}")
    if not arrays["usable"].any():
        raise UserError(f"{path} has no frames with a face; give a face.npz of a capture")
    if arrays["focal"] <= 0:
        raise UserError(f"{path}: focal is {arrays['focal']:g} pixels, allowed are positive numbers; {_AGAIN}")
    person = None
    if name == "mediapipe":
        mean, basis, turned_by, eye_centre, seen, places, channels = _arrays(content, _PERSON, sizes, path).values()
        person = MediaPipeFace(mean, basis, turned_by, eye_centre, seen, at_vertices(places), tuple(channels.tolist()))
    parameters = FaceParameters(**{parameter: arrays[parameter] for parameter in _PARAMETERS})
    check_finite(parameters, str(path))
    track = FaceTrack(
        name,
        parameters,
        Camera(arrays["focal"], arrays["centre"]),
        _frame_rate(str(arrays["frame_rate"]), path),
        arrays["usable"],
        person,
    )
    if person is not None:
        track.check_sizes(person, path)
    return track


def _arrays(content: dict[str, object], layout: Layout, sizes: dict[str, int], path: Path) -> dict[str, np.ndarray]:
    """The arrays of `layout` after their checks, in its order; floating point numbers as float32."""
    arrays = {}
    for name, (kinds, _) in layout.items():
        if name not in content:
            raise UserError(f"{path} is no fitted face model: it has no array {name!r}; {_AGAIN}")
        array = checked_array(content[name], name, layout, sizes, path, _AGAIN)
        if kinds == "f":
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
            if name not in _PARAMETERS and not np.isfinite(array).all():
                raise UserError(f"{path}: {name} holds numbers that are not finite; {_AGAIN}")
        highest = _HIGHEST.get(name)
        if highest is not None and not 0 <= array.min() <= array.max() <= highest:
            raise UserError(
                f"{path}: {name} holds {array.min()} to {array.max()}, allowed are 0 to {highest}; {_AGAIN}"
            )
        arrays[name] = array
    return arrays


def _frame_rate(text: str, path: Path) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise UserError(
            f"{path}: frame_rate is {text!r}, allowed are positive numbers such as 25 or 30000/1001; {_AGAIN}"
        )
    return rate


def draw_track(
    model: FaceModel, parameters: FaceParameters, camera: Camera, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(geometry, iris map) of each frame of `parameters`; see `drawing.condition_images`."""
    for start in range(0, len(parameters), _CHUNK):
        # Always as many, so that nothing compiles again.
        which = np.minimum(np.arange(start, start + _CHUNK), len(parameters) - 1)
        posed = np.asarray(_posed(model, parameters.frames(which)))
        for points in posed[: len(parameters) - start]:
            yield condition_images(model, points, camera, size)


def draw_capture(
    model: FaceModel, track: FaceTrack, landmarks: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(geometry, iris map) of each frame of a capture, of any content where there is no face.

    Args:
        landmarks: [N, L, 3] in pixels, not a number where there is no face.
    """
    if model.name == "mediapipe":
        # As it was tracked: nearer to the picture than any fit.
        return ((render_geometry(points, size), iris_map(points, size)) for points in np.nan_to_num(landmarks))
    return draw_track(model, track.parameters, track.camera, size)


@jax.jit
def _posed(model: FaceModel, parameters: FaceParameters) -> jax.Array:
    return model.vertices(parameters)
