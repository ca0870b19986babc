"""Scores of pictures and videos, and the report that `svp evaluate` writes."""

from svp_jax.metrics.distribution import fid, kid
from svp_jax.metrics.evaluate import evaluate, summary
from svp_jax.metrics.image import mse, psnr, ssim
from svp_jax.metrics.landmarks import landmark_shift
from svp_jax.metrics.temporal import smoothness

__all__ = ["evaluate", "fid", "kid", "landmark_shift", "mse", "psnr", "smoothness", "ssim", "summary"]
