"""Scores of videos against their reference, frame by frame, and their means."""

from collections.abc import Iterable, Sequence

import numpy as np

from svp_jax.metrics.meters.meter import Meter, Moment, Regions


def score(
    rows: Sequence[Iterable[np.ndarray]],
    references: Iterable[np.ndarray],
    masks: Iterable[dict[str, np.ndarray | None]],
    follows: Sequence[bool],
    meters: Sequence[Meter],
) -> None:
    """Shows N frames of all rows to the meters, one after the other; only two of each are held at a time.

    Args:
        rows: of each N pictures uint8 [H, W, 3]. references: as many.
        masks: N times region -> bool [H, W]; None: all pixels.
        follows: N flags: this frame comes right after the one before it, in the same shot.
    """
    before = None
    for number, (reference, regions, follow, *images) in enumerate(zip(references, masks, follows, *rows, strict=True)):
        now = Moment(number, reference, images, regions)
        for meter in meters:
            meter.measure(now, before if follow else None)
        before = now


def joined(parts: Iterable[Regions]) -> Regions:
    """The metrics of all parts, region by region."""
    found: Regions = {}
    for part in parts:
        for region, metrics in part.items():
            found.setdefault(region, {}).update(metrics)
    return found


def means(scores: Regions) -> dict[str, dict[str, float | int]]:
    """Means over the frames where a metric is finite: region -> metric -> number (NaN: it is finite nowhere).

    Equal pictures have an infinite PSNR; `psnr_infinite` counts those frames.
    """
    found = {}
    for region, metrics in scores.items():
        found[region] = {metric: _finite_mean(values) for metric, values in metrics.items()}
        if "psnr" in metrics:
            found[region]["psnr_infinite"] = int(np.isposinf(metrics["psnr"]).sum())
    return found


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
