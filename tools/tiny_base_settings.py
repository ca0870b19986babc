"""What all parts of the tiny base's training share."""

from collections.abc import Callable
from pathlib import Path

from flax import nnx

from svp_jax.weights.folder import load_model

SEED = 7
PARSING_CAPTION = "a face parsing map"
EMPTY_SHARE = 0.1  # captions dropped, for guidance
OPTIMIZER = {"warmup_steps": 200, "decay": "cosine", "clip_norm": 1.0, "weight_decay": 0.01}


def first_weights(work: Path, name: str, make: Callable[[], nnx.Module]) -> nnx.Module:
    """What training starts from: WORK/start/NAME, an earlier run's result, else a new network."""
    start = work / "start" / name
    return load_model(start) if start.exists() else make()
