"""Networks that metrics look through: LPIPS on AlexNet and VGG16, and the Inception of FID and KID."""

from svp_jax.metrics.networks.inception import Inception, open_inception
from svp_jax.metrics.networks.lpips import LPIPS, open_lpips

__all__ = ["LPIPS", "Inception", "open_inception", "open_lpips"]
