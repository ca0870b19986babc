"""Files that the program uses and does not bring along: the registry of them, and where they are looked for."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from svp_jax.errors import UserError

REGISTRY = Path(__file__).parent / "assets" / "registry.yaml"


@dataclass(frozen=True)
class ModelFile:
    """One file of `assets/registry.yaml`; `file` is its path in a folder of model files.

    Without `sha256` it is a page to look at, and cannot be fetched. `bytes` is its size. `commercial` is false where
    its licence forbids commercial use.
    """

    file: str
    url: str
    licence: str
    use: str
    sha256: str | None = None
    bytes: int | None = None
    commercial: bool = True


@functools.cache
def registry() -> dict[str, ModelFile]:
    """Every file that the program can use, by its path."""
    entries = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    return {entry["file"]: ModelFile(**entry) for entry in entries}


def model_folders() -> list[Path]:
    """$SVP_MODELS where it is set, then svp_jax in the user's cache ($XDG_CACHE_HOME, else ~/.cache)."""
    folders = [Path(os.environ["SVP_MODELS"])] if os.environ.get("SVP_MODELS") else []
    return [*folders, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svp_jax"]


def look_up_model(name: str) -> Path | None:
    """The first file `name` in the model folders, None where there is none."""
    return next((folder / name for folder in model_folders() if (folder / name).is_file()), None)


def how_to_get(name: str) -> str:
    """What to do for the file `name`."""
    return f"`svp assets --fetch {name}` downloads it" if name in registry() else "see its description"


def find_model(name: str, given: Path | None = None, flag: str = "") -> Path:
    """The model file `given` by the user, else `name` in the model folders.

    Raises:
        UserError: it is nowhere; the message says what to do.
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
            f"model file {name} is not in {places}: {how_to_get(name)}; or set SVP_MODELS to its folder{option}"
        )
    return found
