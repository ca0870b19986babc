"""Scores of pictures and videos, and the report that `svp evaluate` writes."""

from svp_jax.metrics.distribution import fid, kid
from svp_jax.metrics.evaluate import evaluate, summary
from svp_jax.metrics.image import l1, ms_ssim, mse, psnr, ssim
from svp_jax.metrics.landmarks import landmark_shift
from svp_jax.metrics.networks import open_inception, open_lpips
from svp_jax.metrics.temporal import flicker, landmark_jitter, smoothness, tlpips, tof, warping_error

__all__ = [
    "evaluate",
    "fid",
    "flicker",
    "kid",
    "l1",
    "landmark_jitter",
    "landmark_shift",
    "ms_ssim",
    "mse",
    "open_inception",
    "open_lpips",
    "psnr",
    "smoothness",
    "ssim",
    "summary",
    "tlpips",
    "tof",
    "warping_error",
]
