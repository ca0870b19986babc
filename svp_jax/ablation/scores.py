"""The scores of one render of an ablation."""

import itertools
import math
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.metrics.meters.meter import Meter
from svp_jax.metrics.meters.perceptual import PerceptualMeter
from svp_jax.metrics.meters.pictures import PictureMeter
from svp_jax.metrics.networks import LPIPS, open_lpips
from svp_jax.metrics.pairs import pair_frames
from svp_jax.metrics.score import joined, means, score
from svp_jax.metrics.sources import Source, open_source

PERCEPTUAL = "lpips_alex"
METRICS = ("psnr", "ssim", "mse", "smoothness")


def open_perceptual() -> tuple[LPIPS | None, dict[str, str]]:
    """(LPIPS with AlexNet, nothing), or (None, the reason why not by its name) where its weights are absent."""
    try:
        return open_lpips("alex"), {}
    except UserError as reason:
        return None, {PERCEPTUAL: str(reason)}


def score_render(folder: Path, reference: Source, lpips: LPIPS | None) -> dict[str, float | None]:
    """Metric -> mean over the frames where it is defined, whole frames, as `svp evaluate` has it; None: nowhere."""
    subject = open_source(folder)
    pairs = pair_frames(subject, reference)
    count = len(pairs.subject)
    meters: list[Meter] = [PictureMeter(count, 1, ["full"], reference.height, reference.width)]
    if lpips is not None:
        meters.append(PerceptualMeter(count, 1, reference.height, reference.width, lpips))
    pictures, truth = subject.pictures(pairs.subject), reference.pictures(pairs.reference)
    score([pictures], truth, itertools.repeat({"full": None}, count), pairs.follows, meters)
    (values,) = (joined(rows) for rows in zip(*(meter.per_frame() for meter in meters), strict=True))
    found = means(values)["full"]
    return {
        name: float(f"{found[name]:.8g}") if math.isfinite(found[name]) else None
        for name in (*METRICS, PERCEPTUAL)
        if name in found
    }
