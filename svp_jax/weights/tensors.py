"""Tensors that stay on disk until they are read, one by one: memory is that of the largest, not of the file."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from svp_jax.errors import UserError

# How safetensors' headers name the types of numbers.
_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
FLOATS = tuple(np.dtype(kind) for kind in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16))


@dataclass(frozen=True)
class LazyTensor:
    """One tensor in a file: `read` gives it, in PyTorch's order of axes, and may be called more than once."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def map(self, change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None) -> "LazyTensor":
        """The tensor after `change`, which keeps its type; `shape` is the new one where it does not stay."""
        return LazyTensor(self.shape if shape is None else shape, self.dtype, lambda: change(self.read()))


Tensors = Mapping[str, LazyTensor]


def open_safetensors(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors of one file by name, and the texts in its header.

    Raises:
        UserError: no such file, or one that is cut off, claims more than it holds, or is no safetensors at all.
    """
    path = Path(path)
    try:
        # The library checks the header against the file's size; tensors are read without it, since it maps the whole
        # file into memory and every page that was read counts as used.
        with safe_open(path, framework="np") as file:
            texts = file.metadata() or {}
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror or error})") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); download or save it again") from None
    header.pop("__metadata__", None)
    return {name: _on_disk(path, 8 + length, name, entry) for name, entry in header.items()}, texts


def _on_disk(path: Path, start: int, name: str, entry: dict) -> LazyTensor:
    if entry["dtype"] not in _TYPES:
        raise UserError(f"{path}: {name} has numbers of the type {entry['dtype']}, which this program cannot read")
    shape, dtype = tuple(entry["shape"]), np.dtype(_TYPES[entry["dtype"]])
    offset = start + entry["data_offsets"][0]

    def read() -> np.ndarray:
        values = np.fromfile(path, dtype, math.prod(shape), offset=offset)
        if values.size != math.prod(shape):
            raise UserError(f"{path}: it was cut off while it was read; download or save it again")
        return values.reshape(shape)

    return LazyTensor(shape, dtype, read)


def open_sharded(index: Path) -> dict[str, LazyTensor]:
    """The tensors that an index file (`*.safetensors.index.json`) distributes over the files beside it.

    Raises:
        UserError: an unreadable index, one that names files outside its folder, or shards that do not hold exactly
            what it says.
    """
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(places.values()), key=str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not a readable index of shards ({error!r}); download it again") from None
    for file in files:
        if not isinstance(file, str) or Path(file).name != file or file in (".", ".."):
            raise UserError(f"{index} names the file {file!r}, allowed are names of files in its own folder")
    tensors = {}
    for file in files:
        shard, _ = open_safetensors(index.parent / file)
        listed = {name for name, place in places.items() if place == file}
        if listed != shard.keys():
            problems = [
                f"{kind} {', '.join(sorted(names))}"
                for kind, names in (("lacks", listed - shard.keys()), ("also holds", shard.keys() - listed))
                if names
            ]
            raise UserError(f"{index.parent / file} does not fit {index.name}: it {' and '.join(problems)}")
        tensors |= shard
    return tensors


def write_safetensors(path: Path, tensors: Tensors, texts: Mapping[str, str]) -> None:
    """Writes tensors one by one; the file appears under its name when all of it is there.

    Args:
        texts: for the header. "format" says "pt" for all who read files with it.

    Raises:
        UserError: a tensor holds numbers that are not finite, by name.
        OSError: the disk is full and the like; nothing is left.
    """
    # As the library orders them: wide numbers first, so that each tensor starts at a multiple of its numbers' size.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(texts)}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with _renamed_at_end(path) as beside, open(beside, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in names:
            value = tensors[name].read()
            if value.shape != tensors[name].shape or value.dtype != tensors[name].dtype:
                raise ValueError(f"{name} reads as {value.dtype} {value.shape}, not as it was announced")
            if not _is_finite(value):
                raise UserError(f"{name} holds numbers that are not finite; {path.name} was not written")
            file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _is_finite(value: np.ndarray) -> bool:
    return value.dtype not in FLOATS or bool(np.isfinite(value).all())


def check_finite(value: np.ndarray, name: str, path: Path) -> None:
    """UserError where the tensor `name` of `path` holds numbers that are not finite."""
    if not _is_finite(value):
        raise UserError(
            f"{path}: {name} holds numbers that are not finite; it cannot be used, make or download it again"
        )


@contextlib.contextmanager
def _renamed_at_end(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it becomes `path` without an error and disappears with one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
