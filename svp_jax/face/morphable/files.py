"""Opens the face model that a name and, where it needs one, a file stand for."""

from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.face.morphable.flame import load_flame
from svp_jax.face.morphable.flame_landmarks import landmark_files
from svp_jax.face.morphable.ict import load_ict
from svp_jax.face.morphable.ict_file import FILE
from svp_jax.face.morphable.ict_repository import FOLDER
from svp_jax.face.morphable.model import FaceModel
from svp_jax.model_files import look_up_model, model_folders

_ICT_REPOSITORY = "ICT-FaceKit"
_CANDIDATES = {
    "ict": (FILE,),
    "flame": ("flame2023.pkl", "generic_model.pkl", "FLAME2023/flame2023.pkl", "FLAME2020/generic_model.pkl"),
}
_WANTED = {
    "ict": f"{FILE} or a checkout of github.com/ICT-VGL/ICT-FaceKit",
    "flame": "generic_model.pkl or flame2023.pkl from flame.is.tue.mpg.de, with a landmark embedding beside it",
}
FILE_MODELS = tuple(_CANDIDATES)


def face_model_path(name: str, given: Path | None) -> Path:
    """Where the files of the face model "ict" or "flame" are.

    Args:
        given: by the user, with --face-model-file; None looks into the folders of model files.

    Raises:
        UserError: they are not there.
    """
    if given is not None:
        if not Path(given).exists():
            raise UserError(f"--face-model-file {given}: no such file or folder; give {_WANTED[name]}")
        return Path(given)
    for candidate in _CANDIDATES[name]:
        if (found := look_up_model(candidate)) is not None:
            return found
    for folder in model_folders():
        if name == "ict" and (folder / _ICT_REPOSITORY).is_dir():
            return folder / _ICT_REPOSITORY
    places = " or ".join(str(folder) for folder in model_folders())
    raise UserError(f"--face-model {name}: no {_WANTED[name]} in {places}; give it with --face-model-file")


def face_model_files(name: str, path: Path) -> list[Path]:
    """What `open_face_model` reads for the face model at `path`: files, and of a checkout of ICT-FaceKit a folder."""
    if name == "ict":
        return [path / FOLDER if path.is_dir() else path]
    return [path, *landmark_files(path.parent)]


def open_face_model(name: str, path: Path, weights: tuple[int, int] = (100, 50)) -> FaceModel:
    """The model "ict" or "flame" in the file or folder `path`; UserError where it is none.

    Args:
        weights: how many identity and expression weights FLAME gets, at most; ICT-FaceKit has all of its.
    """
    return load_ict(path) if name == "ict" else load_flame(path, None, *weights)
