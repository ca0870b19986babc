"""Pickled arrays, read without running their code and without the packages that wrote them.

FLAME's files and the outputs of face trackers are pickles of Python 2 and 3 that hold objects of NumPy, SciPy, chumpy
and PyTorch. Here stand-ins take the place of their classes, which keep what they are given and do nothing; a pickle
that asks for anything else is refused before it can act.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.pickle_stand_ins import STAND_INS, Kept, RefusedError, Storage, plain


def load_pickle(path: Path) -> object:
    """What a pickle holds, as plain containers and NumPy arrays; sparse matrices come dense.

    Raises:
        UserError: it cannot be read, is damaged, or asks for a class that is not one of arrays.
    """
    return _guarded(path, "pickle", lambda file: _load(file))


def load_pickles(path: Path) -> list:
    """The objects of a file into which several were pickled, one after the other; errors as in `load_pickle`."""

    def read(file) -> list:
        size = path.stat().st_size
        found = []
        while file.tell() < size:
            found.append(_load(file))
        return found

    return _guarded(path, "pickle", read)


def load_npy(path: Path) -> object:
    """What np.save wrote: an array, or the object of an array that holds a single one; errors as in `load_pickle`."""
    return _guarded(path, ".npy file", _npy)


def load_npz(path: Path) -> dict[str, object]:
    """The arrays of an .npz file by name; errors as in `load_pickle`."""

    def read(file) -> dict:
        with zipfile.ZipFile(file) as archive:
            return {name: _npy(io.BytesIO(archive.read(f"{name}.npy"))) for name in _names(archive)}

    return _guarded(path, ".npz file", read)


def npz_names(path: Path) -> list[str]:
    """The names of the arrays in an .npz file, which are not read; errors as in `load_pickle`."""

    def read(file) -> list[str]:
        with zipfile.ZipFile(file) as archive:
            return _names(archive)

    return _guarded(path, ".npz file", read)


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def load_torch(path: Path) -> object:
    """What torch.save wrote (since PyTorch 1.6: zip archives), tensors as arrays; errors as in `load_pickle`."""

    def read(file) -> object:
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            folder = name.removesuffix(".pkl")
            raw = archive.read(name)
            return _load(io.BytesIO(raw), lambda key: archive.read(f"{folder}/{key}"))

    return _guarded(path, "PyTorch file", read)


def _guarded(path: Path, kind: str, read: Callable) -> object:
    try:
        with open(path, "rb") as file:
            return read(file)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except RefusedError as error:
        raise UserError(f"{path} {_line(error)}; it was not opened, give the file as its makers wrote it") from None
    except Exception as error:  # a damaged file can make the unpickler fail in any way
        reason = _line(error) or type(error).__name__
        raise UserError(f"{path} is not a readable {kind} ({reason}); download or save it again") from None


def _line(error: Exception) -> str:
    """An error's text, which may hold names from a damaged file, on one line of printable characters."""
    text = "".join(character if character.isprintable() else " " for character in str(error))
    return text.strip()[:200]


def _npy(file) -> object:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind == "O":
            return _load(file)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _load(file, storage: Callable[[str], bytes] | None = None) -> object:
    """The next pickle of a file; `storage`: gives the bytes of a tensor by their key."""
    return plain(_Unpickler(file, storage).load())


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, storage: Callable[[str], bytes] | None):
        # Python 2's strings, of which its arrays are made, come back as the same bytes.
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _TensorBytes
        if (module, name) not in STAND_INS:
            raise RefusedError(f"asks for {module}.{name}, which could run code")
        return STAND_INS[module, name]

    def persistent_load(self, pid: tuple) -> Storage:
        kind, numbers, key, *_ = pid
        if kind != "storage" or self._storage is None:
            raise pickle.UnpicklingError("refers to data outside it")
        return numbers(self._storage(key))


class _TensorBytes(Kept):
    """Stands for the function with which a tensor that was pickled without torch.save comes back.

    The bytes are PyTorch's older format: five pickles (a magic number, a version, the system, the storage and the
    keys of all storages), then for each key its length and its numbers.
    """

    def __new__(cls, raw: bytes) -> Storage:
        file, keys = io.BytesIO(raw), []
        for _ in range(3):
            _Unpickler(file, None).load()

        def remembered(key: str) -> bytes:
            keys.append(key)
            return b""

        storage = _Unpickler(file, remembered).load()
        if not isinstance(storage, Storage) or _Unpickler(file, None).load() != keys:
            raise pickle.UnpicklingError("holds a tensor of an unknown format")
        file.read(8)
        storage.raw = file.read()
        return storage
