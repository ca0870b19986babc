"""The scores of one render of an ablation."""

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from svp_jax.errors import UserError
from svp_jax.metrics.score import METRICS, means, score
from svp_jax.metrics.sources import Pairs, Source, open_source, pair_frames

if TYPE_CHECKING:
    from svp_jax.metrics.networks import LPIPS

PERCEPTUAL = "lpips_alex"
HIGHER_IS_BETTER = ("psnr", "ssim")
_BATCH = 8  # Pairs that LPIPS looks at together; less memory than a render takes.


def open_perceptual() -> tuple["LPIPS | None", dict[str, str]]:
    """(LPIPS with AlexNet, nothing), or (None, the reason why not by its name) where its weights are absent."""
    from svp_jax.metrics.networks import open_lpips

    try:
        return open_lpips("alex"), {}
    except UserError as reason:
        return None, {PERCEPTUAL: str(reason)}


def score_render(folder: Path, reference: Source, lpips: "LPIPS | None") -> dict[str, float | None]:
    """Metric -> mean over the frames where it is defined, whole frames, as `svp evaluate` has it; None: nowhere."""
    subject = open_source(folder)
    pairs = pair_frames(subject, reference)
    pictures, truth = subject.pictures(pairs.subject), reference.pictures(pairs.reference)
    values = means(score(pictures, truth, None, pairs.follows))["full"]
    values = {name: values[name] for name in METRICS}
    if lpips is not None:
        values[PERCEPTUAL] = _mean_distance(lpips, subject, reference, pairs)
    return {name: float(f"{value:.8g}") if math.isfinite(value) else None for name, value in values.items()}


def _mean_distance(lpips: "LPIPS", subject: Source, reference: Source, pairs: Pairs) -> float:
    rows = zip(subject.pictures(pairs.subject), reference.pictures(pairs.reference), strict=True)
    distances = []
    while batch := list(itertools.islice(rows, _BATCH)):
        # Filled up, so that nothing compiles again.
        filled = batch + batch[-1:] * (_BATCH - len(batch))
        images, references = (np.stack(pictures) for pictures in zip(*filled, strict=True))
        distances.extend(lpips(images, references)[: len(batch)])
    return float(np.mean(distances))
