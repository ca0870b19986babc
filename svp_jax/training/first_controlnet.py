"""What a stage's ControlNet starts from: a given one, the base's own, or a copy of the UNet's encoder."""

import dataclasses
import warnings
from pathlib import Path

import jax.numpy as jnp
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.manifest import content_sha256
from svp_jax.models.controlnet import ControlNet, controlnet_from_unet
from svp_jax.models.layers import copy_of
from svp_jax.weights.base import Base, encoder_shape
from svp_jax.weights.component import Component, instantiate
from svp_jax.weights.folder import open_model
from svp_jax.weights.single_file import open_single_file

PICTURE = 3
# Of a stage's condition channels, those that are the picture which a ControlNet of one picture is made for: Stage I's
# newest render, Stage II's parsing map.
PICTURE_OF = {"outlines": slice(-PICTURE, None), "details": slice(0, PICTURE)}


def first_controlnet(base: Base, given: str, stage: str, channels: int, seed: int) -> ControlNet:
    """The ControlNet that training starts from, with arrays of its own, for conditions of so many channels.

    Args:
        given: folder or single file of a ControlNet for the base's family, of as many channels, or of one picture: then
            it sees that picture alone at first (`PICTURE_OF`). Empty: the base's own where it has one of as many
            channels, else a copy of the UNet's encoder.

    Raises:
        UserError: `given` holds no ControlNet, or none that fits the base or the channels.
    """
    if given:
        component = open_controlnet(given)
        check_fits(given, component, base, channels)
        return _widened(instantiate(component, base.unet.dtype), channels, PICTURE_OF[stage])
    own = base.controlnet
    if own is not None and own.config.conditioning_channels == channels:
        return copy_of(own)
    if own is not None:
        warnings.warn(
            f"the base's controlnet reads {own.config.conditioning_channels} condition channels, this avatar has "
            f"{channels}: training starts from the unet's encoder instead",
            stacklevel=2,
        )
    return controlnet_from_unet(base.unet, channels, nnx.Rngs(seed))


def open_controlnet(given: str) -> Component:
    """The ControlNet in a folder or a single file, unread."""
    path = Path(given)
    if not path.exists():
        raise UserError(f"config: the controlnet {given}: no such folder or file")
    component = open_model(path) if path.is_dir() else open_single_file(path).components.get("controlnet")
    if component is None or component.model_class is not ControlNet:
        raise UserError(f"config: {given} holds no ControlNet; give the folder or the file of one")
    return component


def describe_controlnet(given: str) -> dict:
    """What an avatar records of a ControlNet that a stage started from."""
    return {"path": str(Path(given).resolve()), "sha256": content_sha256(Path(given))}


def check_fits(given: str, component: Component, base: Base, channels: int) -> None:
    """Raises UserError where training cannot start from it: see `first_controlnet`."""
    if encoder_shape(component.config) != encoder_shape(base.unet.config):
        raise UserError(
            f"config: the controlnet {given} is not built like the encoder of the base's unet: another family"
        )
    found = component.config.conditioning_channels
    if found not in (PICTURE, channels):
        raise UserError(
            f"config: the controlnet {given} reads {found} condition channels; allowed are {PICTURE} (one picture) and "
            f"this stage's {channels}"
        )


def _widened(controlnet: ControlNet, channels: int, picture: slice) -> ControlNet:
    """The same for conditions of more channels, of which it heeds those of `picture` alone."""
    if controlnet.config.conditioning_channels == channels:
        return controlnet
    conv = controlnet.controlnet_cond_embedding.conv_in
    kernel = conv.kernel[...]
    wide = jnp.zeros((*kernel.shape[:2], channels, kernel.shape[3]), kernel.dtype).at[:, :, picture].set(kernel)
    conv.kernel = nnx.Param(wide)
    controlnet.config = dataclasses.replace(controlnet.config, conditioning_channels=channels)
    return controlnet
