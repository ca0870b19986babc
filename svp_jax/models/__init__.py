"""Stable Diffusion 1.x and 2.x in Flax NNX, NHWC: networks only, no knowledge of files or training."""

from svp_jax.models.clip_text import TextEncoder, TextEncoderConfig
from svp_jax.models.controlnet import ControlNet, ControlNetConfig, controlnet_from_unet
from svp_jax.models.unet import UNet, UNetConfig
from svp_jax.models.vae import VAE, VAEConfig

__all__ = [
    "VAE",
    "ControlNet",
    "ControlNetConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "controlnet_from_unet",
]
