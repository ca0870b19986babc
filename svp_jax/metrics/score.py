"""Per-frame scores of a video against its reference, over the whole frame and a mask, and their means."""

from collections.abc import Iterable, Sequence

import numpy as np

from svp_jax.metrics.image import MARGIN, decibels, masked_mean, squared_error_map, ssim_map
from svp_jax.metrics.temporal import smoothness

METRICS = ("psnr", "ssim", "mse", "smoothness")
Scores = dict[str, dict[str, np.ndarray]]  # region -> metric -> float [N]


def score(
    images: Iterable[np.ndarray],
    references: Iterable[np.ndarray],
    masks: Iterable[np.ndarray] | None,
    follows: Sequence[bool],
) -> Scores:
    """Scores frames one after the other; only two of each are held at a time.

    Args:
        images, references: N frames uint8 [H, W, 3] each.
        masks: N masks bool [H, W] for the region "face"; None: only the region "full".
        follows: N flags: this frame comes right after the one before it, in the same shot. Smoothness is
            taken for these frames only.

    Returns:
        region ("full", "face") -> metric -> float64 [N]; NaN where a metric is not defined for a frame.
    """
    regions = ("full",) if masks is None else ("full", "face")
    scores = {region: {metric: np.full(len(follows), np.nan) for metric in METRICS} for region in regions}
    before = None
    masks = [None] * len(follows) if masks is None else masks
    frames = zip(images, references, masks, follows, strict=True)
    for number, (image, reference, mask, follow) in enumerate(frames):
        image, reference = image / 255.0, reference / 255.0
        errors, similarity = squared_error_map(image, reference), ssim_map(image, reference)
        for region, values in scores.items():
            chosen = mask if region == "face" else None
            inner = chosen if chosen is None else chosen[MARGIN:-MARGIN, MARGIN:-MARGIN]
            values["mse"][number] = masked_mean(errors, chosen)
            values["psnr"][number] = decibels(values["mse"][number])
            values["ssim"][number] = masked_mean(similarity, inner)
            if follow:
                pair = [np.stack(two) for two in zip(before, (image, reference), strict=False)]
                both_masks = None if chosen is None else np.stack([before[2], mask])
                values["smoothness"][number] = smoothness(*pair, both_masks)[0]
        before = (image, reference, mask)
    return scores


def means(scores: Scores) -> dict[str, dict[str, float | int]]:
    """Means over the frames where a metric is finite: region -> metric -> number (NaN: it is finite nowhere).

    Equal pictures have an infinite PSNR; `psnr_infinite` counts those frames.
    """
    return {
        region: {metric: _finite_mean(values) for metric, values in metrics.items()}
        | {"psnr_infinite": int(np.isposinf(metrics["psnr"]).sum())}
        for region, metrics in scores.items()
    }


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
