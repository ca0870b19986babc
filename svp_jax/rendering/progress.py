"""How far an unfinished render has come: what the next chunk needs, beside the pictures of the finished ones."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.manifest import PROGRESS


@dataclass(frozen=True)
class Progress:
    """Where a render goes on.

    Attributes:
        done: how many of the plan's frames have their files.
        latents: the last frame's latent float32 [1, h, w, c] of each stage that runs, by its name.
    """

    done: int = 0
    latents: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        """That of the unfinished render in `folder`; of nothing where no chunk is finished."""
        path = folder / PROGRESS
        if not path.exists():
            return cls()
        with np.load(path) as arrays:
            latents = {name: arrays[name] for name in arrays.files if name != "done"}
            return cls(int(arrays["done"]), latents)

    def write(self, folder: Path) -> None:
        """Beside what was there, then renamed: a kill leaves one or the other.

        Raises:
            UserError: the disk refuses it.
        """
        beside = folder / f"{PROGRESS}.tmp"
        try:
            with open(beside, "wb") as file:
                np.savez(file, done=self.done, **self.latents)
            beside.replace(folder / PROGRESS)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise UserError(f"{folder / PROGRESS}: cannot write ({error.strerror}); free space") from None
