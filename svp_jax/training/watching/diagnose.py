"""What to say when a loss or a gradient is not finite: where, in what, and what to do."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# Named in the message, of each capture; a batch may have many more.
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
    whose: str,
    origins: np.ndarray | None,
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
        whose: the batch that the origins are of, in words.
        origins: int [n, 2], the capture (from 0) and the frame that each row is of; None where that is not known.
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
        *([] if origins is None else [f"{whose} has {_frames(origins)}"]),
        _about("parameter", parameters),
        _about("gradient", gradients),
        kept,
        _advice(parameters, dtype),
    ]
    return "; ".join(sentences)


def _frames(origins: np.ndarray) -> str:
    """Frames are numbered as their files are, captures as they were given: the first is 1."""
    each = sorted({(int(capture), int(frame)) for capture, frame in origins})
    return " and ".join(
        f"frames {_few([frame for _, frame in group])} of capture {capture + 1}"
        for capture, group in itertools.groupby(each, key=lambda pair: pair[0])
    )


def _few(numbers: list[int]) -> str:
    rest = len(numbers) - SHOWN_FRAMES
    return ", ".join(map(str, numbers[:SHOWN_FRAMES])) + (f" and {rest} more" if rest > 0 else "")


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
