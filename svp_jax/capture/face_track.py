"""The posed face model of a capture: who the person is, how it moves, and before which camera.

A capture keeps it in face.npz; an avatar keeps the one of the capture it was trained on, to be moved by others.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import jax
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.mediapipe_mesh import iris_map, render_geometry
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.drawing import condition_images
from svp_jax.face.morphable.embedding import at_vertices
from svp_jax.face.morphable.files import face_model_path, open_face_model
from svp_jax.face.morphable.mediapipe import MediaPipeFace
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters, check_finite

_CHUNK = 16  # Frames that are posed at a time.
_PARAMETERS = tuple(field.name for field in fields(FaceParameters))
# Arrays of a MediaPipeFace, which is no file of its own.
_PERSON = ("mean", "basis", "turned_by", "eye_centre", "seen", "places", "channels")


@dataclass(frozen=True)
class FaceTrack:
    """A face model over the N frames of a capture.

    Attributes:
        model_name: "ict", "flame" or "mediapipe".
        camera: in pixels of the capture's images.
        person: of "mediapipe", the model itself; None for models that have files.
    """

    model_name: str
    parameters: FaceParameters
    camera: Camera
    person: MediaPipeFace | None = None

    @property
    def weights(self) -> tuple[int, int]:
        """Numbers of identity and expression weights."""
        return len(self.parameters.identity), self.parameters.expression.shape[1]

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
        if (model.identity_size, len(model.channels)) != self.weights:
            raise UserError(
                f"{path}: has {model.identity_size} identity and {len(model.channels)} expression weights, the capture "
                f"was fitted with {self.weights[0]} and {self.weights[1]}; give the file that it was made with"
            )
        return model


def write_face_track(path: Path, track: FaceTrack) -> None:
    """Writes `track` into the npz file `path`."""
    arrays = track.parameters.arrays() | {
        "model_name": np.array(track.model_name),
        "focal": np.float32(track.camera.focal),
        "centre": np.asarray(track.camera.centre, np.float32),
    }
    if track.person is not None:
        person = track.person
        content = (
            person.mean, person.basis, person.turned_by, person.eye_centre, person.seen,
            person.landmarks.corners[:, 0], np.array(person.channels),
        )  # fmt: skip
        arrays |= {f"person_{name}": np.asarray(array) for name, array in zip(_PERSON, content, strict=True)}
    np.savez_compressed(path, **arrays)


def read_face_track(path: Path) -> FaceTrack:
    """Reads what `write_face_track` wrote.

    Raises:
        UserError: the file is missing, is none of those, or holds numbers that are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        parameters = FaceParameters(**{name: arrays[name] for name in _PARAMETERS})
        camera = Camera(arrays["focal"], arrays["centre"])
        person = None
        if "person_mean" in arrays:
            mean, basis, turned_by, eye_centre, seen, places, channels = (arrays[f"person_{name}"] for name in _PERSON)
            person = MediaPipeFace(
                mean, basis, turned_by, eye_centre, seen, at_vertices(places), tuple(str(name) for name in channels)
            )
        track = FaceTrack(str(arrays["model_name"]), parameters, camera, person)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; prepare the video again, or give a capture of a newer version") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no fitted face model ({error}); prepare the video again") from None
    check_finite(parameters, str(path))
    return track


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
