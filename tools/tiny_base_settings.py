"""What all parts of the tiny base's training share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from flax import nnx

from svp_jax.training.data.loader import Samples
from svp_jax.weights.folder import load_model

SEED = 7
PARSING_CAPTION = "a face parsing map"
EMPTY_SHARE = 0.1  # captions dropped, for guidance
OPTIMIZER = {"warmup_steps": 200, "decay": "cosine", "clip_norm": 1.0, "weight_decay": 0.01}


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
