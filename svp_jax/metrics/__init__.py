"""Scores of pictures and videos, and the report that `svp evaluate` writes."""

from svp_jax.metrics.evaluate import evaluate, summary
from svp_jax.metrics.image import l1, ms_ssim, mse, psnr, ssim
from svp_jax.metrics.landmarks import landmark_shift
from svp_jax.metrics.temporal import flicker, landmark_jitter, smoothness, tlpips, tof, warping_error

__all__ = [
    "evaluate",
    "flicker",
    "l1",
    "landmark_jitter",
    "landmark_shift",
    "ms_ssim",
    "mse",
    "psnr",
    "smoothness",
    "ssim",
    "summary",
    "tlpips",
    "tof",
    "warping_error",
]
