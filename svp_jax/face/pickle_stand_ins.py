"""Stand-ins for the classes in pickles of arrays: they keep what they are given, and `plain` makes arrays of it.

None calls anything of what it stands for. Arrays are made from their bytes and a type of plain numbers alone, so not
even NumPy's own unpickling, which trusts its input, is used.
"""

import pickle

import numpy as np


class RefusedError(Exception):
    """What a pickle asks for and does not get, as the end of a sentence about its file."""


class Kept:
    """An object that keeps the arguments and the state that its pickle gives it."""

    state: object = None

    def __new__(cls, *args):
        kept = super().__new__(cls)
        kept.args = args
        return kept

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        self.state = state

    def plain(self) -> object:
        """What it stands for, in plain containers and arrays."""
        raise RefusedError(f"holds an object ({type(self).__name__}) that is no array")


class _Type(Kept):
    """numpy.dtype: its name and, in the state, its byte order."""

    def of(self) -> np.dtype:
        """The type, a plain one of numbers or texts, or that of objects."""
        order = self.state[1] if self.state else "="
        kind = np.dtype(str(self.args[0]))
        if kind.kind not in "biufcSUO":
            raise RefusedError(f"holds an array of {kind}, which is not one of numbers")
        return kind.newbyteorder(order) if order in "<>" else kind


class _Array(Kept):
    """numpy.ndarray: shape, type, order and bytes, or the list of its objects."""

    def plain(self):
        shape, kind, by_column, content = self.state[-4:]
        order = "F" if by_column else "C"
        if kind.of().kind == "O":
            if shape == ():
                return plain(content[0])
            objects = np.empty(len(content), object)
            objects[:] = [plain(item) for item in content]
            return objects.reshape(shape, order=order)
        return _numbers(content, kind).reshape(shape, order=order)


class _Buffer(Kept):
    """numpy's _frombuffer, of pickles of protocol 5: bytes, type, shape, order."""

    def plain(self):
        content, kind, shape, order, *_ = self.args
        return _numbers(bytes(content), kind).reshape(shape, order="F" if order == "F" else "C")


class _Scalar(Kept):
    """numpy's scalar: type and bytes."""

    def plain(self):
        kind, content = self.args
        return _numbers(content, kind)[0]


def _numbers(content: bytes | str, kind: _Type) -> np.ndarray:
    raw = content.encode("latin1") if isinstance(content, str) else content
    dtype = kind.of()
    if dtype.kind == "O":
        raise RefusedError("holds an array of objects given as bytes")
    return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))


class _Encoded(Kept):
    """codecs.encode, by which Python 3 writes bytes into older pickles."""

    def __new__(cls, text, encoding):
        if encoding != "latin1":
            raise RefusedError(f"asks for the encoding {encoding}")
        return text.encode("latin1")


class _Reconstructed(Kept):
    """copyreg's _reconstructor, by which the oldest pickles make an object of a class."""

    def __new__(cls, kind, base, state):
        if not (isinstance(kind, type) and issubclass(kind, Kept)):
            raise RefusedError("makes an object that is no array")
        return kind()


class _Chumpy(Kept):
    """chumpy.ch.Ch, an array that knows how it was computed; its own is `x`."""

    def plain(self):
        return np.asarray(plain(self.state["x"]))


class _Selected(Kept):
    """chumpy.reordering.Select, elements of another chumpy object."""

    def plain(self):
        chosen = np.asarray(plain(self.state["a"])).ravel()[plain(self.state["idxs"])]
        return chosen.reshape(plain(self.state.get("preferred_shape", chosen.shape)))


class _Sparse(Kept):
    """scipy.sparse.csr_matrix; `csc` holds its columns instead of its rows."""

    by_column = False

    def plain(self):
        state = plain(self.state)
        shape = state["_shape"][::-1] if self.by_column else state["_shape"]
        starts, places, data = state["indptr"], state["indices"], state["data"]
        counts = np.diff(starts)
        if len(counts) != shape[0] or (counts < 0).any() or not counts.sum() == len(places) == len(data):
            raise pickle.UnpicklingError("holds a sparse matrix whose parts do not fit")
        dense = np.zeros(shape, data.dtype)
        # Elements that are named twice add up.
        np.add.at(dense, (np.repeat(np.arange(len(counts)), counts), places), data)
        return dense.T if self.by_column else dense


class _SparseColumns(_Sparse):
    by_column = True


class _Path(Kept):
    """A path, as text."""

    def plain(self):
        return "/".join(str(part) for part in self.args)


class Storage(Kept):
    """The numbers of torch tensors, as bytes `raw`."""

    dtype: str

    def __new__(cls, raw: bytes):
        storage = super().__new__(cls)
        storage.raw = raw
        return storage


class _Tensor(Kept):
    """torch's _rebuild_tensor: storage, first element, shape, strides in elements."""

    def plain(self):
        storage, first, shape, strides, *_ = self.args
        numbers = np.frombuffer(storage.raw, storage.dtype)
        last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if 0 in shape:
            return np.zeros(shape, numbers.dtype)
        if min(first, *strides, 0) < 0 or last >= len(numbers):
            raise pickle.UnpicklingError("holds a tensor that reaches beyond its numbers")
        steps = [stride * numbers.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(numbers[first:], shape, steps).copy()


def plain(value: object) -> object:
    """A value with its stand-ins replaced: dicts, lists, tuples, sets, texts, numbers and NumPy arrays."""
    if isinstance(value, Kept):
        return value.plain()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


_TORCH_NUMBERS = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1",
    "Byte": "u1", "Bool": "?",
}  # fmt: skip

# By (module, name), as the pickles of all versions call them.
STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Encoded,
    ("copy_reg", "_reconstructor"): _Reconstructed,
    ("copyreg", "_reconstructor"): _Reconstructed,
    ("collections", "OrderedDict"): dict,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy.reordering", "Select"): _Selected,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
}
for _package in ("numpy.core", "numpy._core"):
    STAND_INS[f"{_package}.multiarray", "_reconstruct"] = _Array
    STAND_INS[f"{_package}.multiarray", "scalar"] = _Scalar
    STAND_INS[f"{_package}.numeric", "_frombuffer"] = _Buffer
for _builtins in ("__builtin__", "builtins"):
    STAND_INS |= {
        (_builtins, "object"): Kept,
        (_builtins, "set"): set,
        (_builtins, "bytes"): bytes,
        (_builtins, "bytearray"): bytearray,
    }
for _name, _kind in (("csc", _SparseColumns), ("csr", _Sparse)):
    for _module in (f"scipy.sparse.{_name}", f"scipy.sparse._{_name}"):
        STAND_INS |= {(_module, f"{_name}_matrix"): _kind, (_module, f"{_name}_array"): _kind}
for _name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
    STAND_INS |= {("pathlib", _name): _Path, ("pathlib._local", _name): _Path}
for _name, _number in _TORCH_NUMBERS.items():
    STAND_INS["torch", f"{_name}Storage"] = type(f"{_name}Storage", (Storage,), {"dtype": _number})
