"""How far an unfinished render has come: what the next chunk needs, beside the pictures of the finished ones."""

import contextlib
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.manifest import PROGRESS

PARTS = ("latents", "warmed_up", "drawn", "seconds")


@dataclass(frozen=True)
class Progress:
    """Where a render goes on.

    Attributes:
        done: how many frames of each track have their files, but for shorter tracks, which are done whole.
        latents: by stage, the last frames' latents float32 [tracks or sequences, h, w, c].
        warmed_up: by stage, those of each track's last frame that is not shown; 0 where there is none.
        drawn: of each track what Stage I has drawn last, by the names in `Still`; empty where it draws every frame.
        seconds: as in `Stopwatch`.
    """

    done: int = 0
    latents: dict[str, np.ndarray] = field(default_factory=dict)
    warmed_up: dict[str, np.ndarray] = field(default_factory=dict)
    drawn: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        """That of the unfinished render in `folder`; of nothing where no chunk is finished.

        Raises:
            UserError: it cannot be read.
        """
        path = folder / PROGRESS
        if not path.exists():
            return cls()
        parts = {part: {} for part in PARTS}
        try:
            with np.load(path) as arrays:
                done = int(arrays["done"])
                for name in arrays.files:
                    if name != "done":
                        part, key = name.split(".")
                        parts[part][key] = arrays[name]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({error}); remove {folder} to start anew") from None
        parts["seconds"] = {name: float(seconds) for name, seconds in parts["seconds"].items()}
        return cls(done, **parts)

    def write(self, folder: Path) -> None:
        """Beside what was there, then renamed: a kill leaves one or the other.

        Raises:
            UserError: the disk refuses it.
        """
        beside = folder / f"{PROGRESS}.tmp"
        arrays = {f"{part}.{name}": array for part in PARTS for name, array in getattr(self, part).items()}
        try:
            with open(beside, "wb") as file:
                np.savez(file, done=self.done, **arrays)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(folder / PROGRESS)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise UserError(f"{folder / PROGRESS}: cannot write ({error.strerror}); free space") from None
