"""PyTorch's pickles (.ckpt, .pth, .pt, .bin), read with torch where it is installed, and without running their code."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from svp_jax.errors import UserError
from svp_jax.weights.tensors import LazyTensor

if TYPE_CHECKING:
    import torch

SUFFIXES = (".ckpt", ".pth", ".pt", ".bin")
# Checkpoints of Stable Diffusion carry the state of their training loop, objects of these packages, beside the weights.
_NOT_NEEDED = ("pytorch_lightning.", "lightning.", "numpy.")
_TYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


class _Nothing:
    """Stands for an object whose class is not needed: takes every argument and state, and does nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def open_pickle(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a pickled state dictionary, which may lie under "state_dict"; everything else in it is left out.

    Read with torch's `weights_only`: a pickle that asks for anything but tensors and plain containers is refused
    before it can act. Newer files (zip archives) are mapped into memory, older ones are read whole.

    Raises:
        UserError: torch is not installed, or the file is damaged, holds no tensors, or would run code.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is a PyTorch pickle, which needs torch to read: pip install torch, or give safetensors"
        ) from None

    content = _load(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = content.items() if isinstance(content, dict) else ()
    found = {
        name: _lazy(path, name, value)
        for name, value in tensors
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not found:
        raise UserError(f"{path} holds no dictionary of tensors; give a file of weights")
    return found


def _load(path: Path) -> object:
    """What torch unpickles, with stand-ins for the objects of `_NOT_NEEDED` packages."""
    import torch

    stand_ins: dict[str, tuple] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(stand_ins.values())), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about old pickle protocols
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S+)", str(error))
            name = named[1] if named else ""
            if name.startswith(_NOT_NEEDED) and name not in stand_ins:
                stand_ins[name] = (_Nothing, name)
                continue
            reason = f"would run code ({name})" if named else "holds more than tensors, or is damaged"
            raise UserError(f"{path} is a pickle that {reason}; it was not opened, give safetensors") from None
        except Exception as error:  # a damaged file can make the unpickler fail in any way
            reason = (
                str(error).split(". ")[0].splitlines()[0] if isinstance(error, OSError | RuntimeError) else "damaged"
            )
            raise UserError(f"{path} is not a readable PyTorch file ({reason}); download or save it again") from None


def _lazy(path: Path, tensor_name: str, value: "torch.Tensor") -> LazyTensor:
    import torch

    types = {getattr(torch, name): name for name in _TYPES} | {torch.bfloat16: ml_dtypes.bfloat16}
    if value.layout != torch.strided or value.is_meta or value.dtype not in types:
        raise UserError(
            f"{path}: {tensor_name} is {value.layout} of {value.dtype}, which cannot be read; give safetensors"
        )

    def read() -> np.ndarray:
        plain = value.detach().contiguous()
        # NumPy has no bfloat16 of its own.
        if plain.dtype == torch.bfloat16:
            return plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return plain.numpy()

    return LazyTensor(tuple(value.shape), np.dtype(types[value.dtype]), read)
