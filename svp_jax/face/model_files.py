"""Where the trackers' and parsers' model files are looked for, and what to say when one is missing."""

import os
from pathlib import Path

from svp_jax.errors import UserError

STORE = "https://storage.googleapis.com/mediapipe-models"
SOURCES = {
    "face_landmarker.task": f"{STORE}/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    "selfie_multiclass_256x256.tflite": (
        f"{STORE}/image_segmenter/selfie_multiclass_256x256/float32/1/selfie_multiclass_256x256.tflite"
    ),
    "skin_clothes_hair_pan.onnx": (
        "https://github.com/Kazuhito00/Skin-Clothes-Hair-Segmentation-using-SMP, folder 02.model/_old/"
        "PAN(timm-mobilenetv3_small_100)_452_1.02M_0.8028, file best_model_simplifier.onnx"
    ),
}


def model_folders() -> list[Path]:
    """$SVP_MODELS where it is set, then svp_jax in the user's cache ($XDG_CACHE_HOME, else ~/.cache)."""
    folders = [Path(os.environ["SVP_MODELS"])] if os.environ.get("SVP_MODELS") else []
    return [*folders, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svp_jax"]


def look_up_model(name: str) -> Path | None:
    """The first file `name` in the model folders, None where there is none."""
    return next((folder / name for folder in model_folders() if (folder / name).is_file()), None)


def find_model(name: str, given: Path | None = None, flag: str = "") -> Path:
    """The model file `given` by the user, else `name` in the model folders.

    Raises:
        UserError: it is nowhere; the message says what to download, from where and where to put it.
    """
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"{flag} {given}: no such model file; give the path of {name}")
        return Path(given)
    found = look_up_model(name)
    if found is None:
        places = " or ".join(str(folder) for folder in model_folders())
        option = f", or give its path with {flag}" if flag else ""
        raise UserError(
            f"model file {name} is not in {places}: download it ({SOURCES.get(name, 'see its description')}) "
            f"into one of them or set SVP_MODELS to its folder{option}"
        )
    return found
