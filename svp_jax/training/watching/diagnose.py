"""What to say when a loss or a gradient is not finite: where, in what, and what to do."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

# Named in the message; a batch may have many more.
SHOWN_FRAMES = 16


def worst(values: Mapping[str, float]) -> tuple[str, float]:
    """The first entry that is not finite, else the largest.

    Args:
        values: the L2 norm or the largest magnitude of each tensor, by its name; not empty.
    """
    wrong = (item for item in values.items() if not math.isfinite(item[1]))
    return next(wrong, None) or max(values.items(), key=lambda item: item[1])


def not_finite_message(
    run: str,
    step: int,
    loss: float,
    frames: np.ndarray,
    parameters: Mapping[str, float],
    gradients: Mapping[str, float],
    saved: tuple[int, Path] | None,
    learning_rate: float,
    dtype: str,
) -> str:
    """One line for a UserError.

    Args:
        run: its name, such as "details".
        step: number of the step that gave `loss`, counted from 1.
        frames: int [n, 2], which capture (from 0) and which of its frames each row of the batch is of, where that is
            known; with several processes those of this one.
        parameters, gradients: the L2 norm (or the largest magnitude) of each tensor, by its name: the parameters that
            the step began with, and their gradients.
        saved: finished steps of the last good checkpoint and its folder, None before the first.
        learning_rate: of this step.
        dtype: of the computation, "float32", "bfloat16" or "float16".
    """
    what = "the gradient" if math.isfinite(loss) else "the loss"
    kept = "no checkpoint was saved yet" if saved is None else f"the state after step {saved[0]} is kept in {saved[1]}"
    sentences = [
        f"{run}: {what} is not finite at step {step} (loss {loss:g}, learning rate {learning_rate:g}, {dtype})",
        *([f"{_whose()} has {_few(frames)}"] if len(frames) else []),
        _about("parameter", parameters),
        _about("gradient", gradients),
        kept,
        _advice(parameters, dtype),
    ]
    return "; ".join(sentences)


def _whose() -> str:
    if jax.process_count() == 1:
        return "the batch"
    return f"process {jax.process_index()}'s part of the batch"


def _few(frames: np.ndarray) -> str:
    """The frames of each capture, which are counted from 1 as on the command line."""
    each = sorted({(int(capture), int(frame)) for capture, frame in frames})
    rest = len(each) - SHOWN_FRAMES
    parts = [
        f"frames {', '.join(str(frame) for _, frame in group)} of capture {capture + 1}"
        for capture, group in itertools.groupby(each[:SHOWN_FRAMES], key=lambda pair: pair[0])
    ]
    return " and ".join(parts) + (f" and {rest} more" if rest > 0 else "")


def _about(kind: str, values: Mapping[str, float]) -> str:
    name, value = worst(values)
    wrong = _not_finite(values)
    if wrong:
        return f"{wrong} of {len(values)} {kind}s are not finite, the first is {name} ({value:g})"
    return f"the largest {kind} is {name} ({value:.3g})"


def _not_finite(values: Mapping[str, float]) -> int:
    return sum(not math.isfinite(value) for value in values.values())


def _advice(parameters: Mapping[str, float], dtype: str) -> str:
    lower = "start anew with a lower learning_rate or a longer warm-up (warmup_steps)"
    if dtype != "float32":
        return f"{lower}, or compute in float32 instead of {dtype}"
    if _not_finite(parameters):
        return f"{lower}: the step before this one broke the parameters"
    return f"{lower}, and look at these frames"
