"""What all parts of the tiny base's training share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import nnx

from svp_jax.training.data.loader import Samples
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.optimizer import OptimizerSettings
from svp_jax.weights.folder import load_model

SEED = 7
PARSING_CAPTION = "a face parsing map"
EMPTY_SHARE = 0.1  # captions dropped, for guidance


def first_weights(work: Path, name: str, make: Callable[[], nnx.Module]) -> nnx.Module:
    """What training starts from: WORK/start/NAME, an earlier run's result, else a new network."""
    start = work / "start" / name
    return load_model(start) if start.exists() else make()


def batch_rng(seed: int, step: int) -> np.random.Generator:
    """The generator of all host-side randomness of batch `step`."""
    # The third number sets it apart from the shuffles, which are seeded with pairs.
    return np.random.default_rng((seed, step, 1))


def rows_of(batch_of: Callable[[int], dict[str, np.ndarray]]) -> Samples:
    """Samples that take their rows from whole batches: the base is trained on one machine."""
    return lambda step, rows: {name: array[rows] for name, array in batch_of(step).items()}


def run_settings(steps: int, batch_size: int, learning_rate: float, save_every: int) -> RunSettings:
    """How each network is trained: AdamW, warm-up, cosine."""
    optimizer = OptimizerSettings(learning_rate, warmup_steps=200, decay="cosine", clip_norm=1.0, weight_decay=0.01)
    return RunSettings(steps, batch_size, SEED, optimizer, save_every, preview_every=500)


@dataclass(frozen=True)
class Sheets:
    """A preview for the training loop: `draw(path, models)` writes each of WORK/NAME_STEP.png."""

    work: Path
    name: str
    draw: Callable[[Path, dict], None]

    def path(self, step: int) -> Path:
        """Of the picture after `step` finished steps."""
        return self.work / f"{self.name}_{step:06d}.png"

    def __call__(self, step: int, models: dict) -> dict[str, float]:
        """Draws it; there are no scores."""
        self.draw(self.path(step), models)
        return {}
