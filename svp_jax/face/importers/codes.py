"""Codes that users saved from a tool whose own output lacks them: .npz files of a layout that we define.

One file for all frames (arrays [B, n]), or a folder of one for each frame (arrays [n] or [1, n]), whose names end with
the frame's number. What the tools' scripts must save, and how, stands in docs/importers.md.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.importers.imported import numbers
from svp_jax.face.pickles import load_npz, npz_names


@dataclass(frozen=True)
class Codes:
    """Codes of B frames.

    Attributes:
        arrays: float64 by name, each [B, ...].
        frames: int64 [B], their numbers.
        image_size: height and width of the video.
    """

    arrays: dict[str, np.ndarray]
    frames: np.ndarray
    image_size: tuple[int, int]


def field_names(path: Path) -> set[str]:
    """The arrays that a file, or the first file of a folder, holds; none where there is no file."""
    files = _files(path)
    return set(npz_names(files[0])) if files else set()


def read_codes(path: Path, sizes: dict[str, tuple[int | None, ...]], optional: tuple[str, ...] = ()) -> Codes:
    """Reads codes and checks them.

    Args:
        path: a file or a folder.
        sizes: the shape of each code in one frame, None for any size.
        optional: which of them may be missing.

    Raises:
        UserError: there are no frames, or codes are missing, misshapen or not finite.
    """
    files = _files(path)
    if not files:
        raise UserError(f"{path} holds no .npz files; see docs/importers.md for what to save")
    sizes = sizes | {"tform": (3, 3)}
    if path.is_file():
        content = load_npz(path)
        codes = _of_all(path, content, _present(content, sizes, optional))
        frames = numbers(content, "frame", path, (len(codes["cam"]),)) if "frame" in content else None
        numbered = np.arange(len(codes["cam"])) if frames is None else frames.astype(np.int64)
        return Codes(codes, numbered, _image_size(path, content))
    singles = [load_npz(file) for file in files]
    present = _present(singles[0], sizes, optional)
    each = [_of_one(file, content, present) for file, content in zip(files, singles, strict=True)]
    image_sizes = {_image_size(file, content) for file, content in zip(files, singles, strict=True)}
    if len(image_sizes) > 1:
        raise UserError(f"{path} holds frames of several sizes {sorted(image_sizes)}; give those of one video")
    try:
        arrays = {name: np.stack([codes[name] for codes in each]) for name in present}
    except ValueError:
        raise UserError(f"{path} holds codes of several lengths; give the output of one model") from None
    return Codes(arrays, np.array([_number(file) for file in files]), image_sizes.pop())


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.npz"))
    return [path] if path.suffix == ".npz" and path.is_file() else []


def _present(content: dict, sizes: dict, optional: tuple[str, ...]) -> dict:
    return {name: size for name, size in sizes.items() if name in content or name not in optional}


def _of_all(path: Path, content: dict, sizes: dict) -> dict[str, np.ndarray]:
    count = len(numbers(content, "cam", path, (None, 3)))
    arrays = {}
    for name, size in sizes.items():
        # One shape or crop may be given for all frames.
        shared = np.ndim(content.get(name)) == len(size)
        array = numbers(content, name, path, size if shared else (count, *size))
        arrays[name] = np.broadcast_to(array, (count, *array.shape)) if shared else array
    return arrays


def _of_one(path: Path, content: dict, sizes: dict) -> dict[str, np.ndarray]:
    batched = {name: np.ndim(content.get(name)) == len(size) + 1 for name, size in sizes.items()}
    shapes = {name: (1, *size) if batched[name] else size for name, size in sizes.items()}
    arrays = {name: numbers(content, name, path, shape) for name, shape in shapes.items()}
    return {name: array[0] if batched[name] else array for name, array in arrays.items()}


def _image_size(path: Path, content: dict) -> tuple[int, int]:
    size = numbers(content, "image_size", path, (2,))
    if (size < 1).any():
        raise UserError(f"{path}: image_size is {size.tolist()}, allowed are height and width of the video's frames")
    return int(size[0]), int(size[1])


def _number(path: Path) -> int:
    found = re.search(r"(\d+)$", path.stem)
    if not found:
        raise UserError(f"{path}: its name does not end with the frame's number; name it like frame0007.npz")
    return int(found[1])
