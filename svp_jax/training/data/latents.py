"""Latents of the training images: computed once, kept on disk with a hash of what made them, read as they are needed.

latents/
  mean.npy, std.npy   float32 [n, h, w, c], the unscaled posterior; shorter than they say until all is there
  latents.json        the hash, and how many pictures are done
"""

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np
from flax import nnx
from tqdm import tqdm

from svp_jax.errors import UserError
from svp_jax.manifest import write_json
from svp_jax.models.codec import encode_images
from svp_jax.models.vae import VAE

# Pictures between two notes of how far it is: a few seconds at 512 x 512 on a GPU, 8 MB of latents.
PART = 64
NOTES = "latents.json"


@dataclass(frozen=True)
class Latents:
    """The latents of n pictures, in a folder that `cached_latents` made. Nothing of them is kept in memory or pickled.

    Attributes:
        shape: [n, h, w, c].
        offset: of the first number in both files, in bytes.
    """

    folder: Path
    shape: tuple[int, int, int, int]
    offset: int

    @staticmethod
    def open(folder: Path) -> "Latents":
        with open(folder / "mean.npy", "rb") as file:
            shape, _ = _read_header(file)
            return Latents(folder, shape, file.tell())

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the pictures `numbers`, unscaled, float32 [b, h, w, c] each."""
        # Opened anew, since a map that stayed open would be pickled with all that it shows. Not by np.load: it parses
        # the header by `ast`, which fails now and then in threads of Python 3.11 (python/cpython#106905).
        mean, std = (
            np.memmap(self.folder / f"{name}.npy", np.float32, "r", self.offset, self.shape)[numbers]
            for name in ("mean", "std")
        )
        return np.asarray(mean), np.asarray(std)


def cached_latents(
    folder: Path, vae: VAE, source_hash: str, read: Callable[[np.ndarray], np.ndarray], indices: np.ndarray
) -> Latents:
    """As `encode_images`, into `folder`; what is there of the same VAE, source and indices is not made again.

    An encoding that was interrupted goes on where it last noted how far it was. Few pictures are in memory at a time.

    Raises:
        UserError: the disk is full.
    """
    made_from = _hash(vae, source_hash, indices)
    done = _done(folder, made_from, len(indices))
    if done < len(indices):
        try:
            if not done:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            _encode(folder, vae, read, indices, done, made_from)
        except OSError as error:
            # What was noted before stays, and is gone on with.
            raise UserError(f"{folder}: cannot write the latents ({error.strerror}); free space") from None
    return Latents.open(folder)


def _encode(folder: Path, vae: VAE, read: Callable, indices: np.ndarray, done: int, made_from: str) -> None:
    with tqdm(total=len(indices), initial=done, desc="latents", unit="image", file=sys.stderr, mininterval=2.0) as bar:
        while done < len(indices):
            part = indices[done : done + PART]
            for name, values in zip(("mean", "std"), encode_images(vae, read, part), strict=True):
                _write(folder / f"{name}.npy", values, done, len(indices))
            done += len(part)
            write_json(folder / NOTES, {"made_from": made_from, "done": done})
            bar.update(len(part))


def _write(path: Path, values: np.ndarray, start: int, count: int) -> None:
    """Writes rows from `start` of an array that will have `count` of them.

    Not through a memory map: there a full disk is a signal that ends the process.
    """
    with open(path, "r+b" if start else "wb") as file:
        if start:
            _read_header(file)
            file.seek(start * values[0].nbytes, os.SEEK_CUR)
        else:
            shape, kind = (count, *values.shape[1:]), np.lib.format.dtype_to_descr(values.dtype)
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        # Before the note that says so.
        os.fsync(file.fileno())


def _done(folder: Path, made_from: str, count: int) -> int:
    """How many of the `count` pictures are in `folder` already: none where they are others, or anything is wrong."""
    try:
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        done = notes["done"] if notes["made_from"] == made_from else 0
        for name in ("mean", "std"):
            with open(folder / f"{name}.npy", "rb") as file:
                shape, dtype = _read_header(file)
                needed = file.tell() + done * math.prod(shape[1:]) * dtype.itemsize
                if shape[0] != count or os.fstat(file.fileno()).st_size < needed:
                    return 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return done


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file, which is then at its first number; ValueError where it is none."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _hash(vae: VAE, source_hash: str, indices: np.ndarray) -> str:
    digest = hashlib.sha256(source_hash.encode())
    digest.update(np.asarray(indices, np.int64).tobytes())
    for leaf in jax.tree.leaves(nnx.to_pure_dict(nnx.state(vae))):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
