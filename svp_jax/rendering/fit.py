"""Whether an avatar, a driver and the settings of a render go together."""

import warnings
from pathlib import Path
from typing import Literal

from svp_jax.errors import UserError
from svp_jax.face.conditions import condition_spec
from svp_jax.rendering.driver import Driver
from svp_jax.rendering.options import RenderOptions


def stage_unets(options: RenderOptions) -> dict[str, Literal["tuned", "base", "both"]]:
    """The stages that a render runs, each with the UNet that it takes; both where it mixes them."""
    unets = {}
    if options.maps == "stage1":
        unets["outlines"] = "tuned"
    if options.stage == "both":
        unets["details"] = {1.0: "tuned", 0.0: "base"}.get(options.tuned_share, "both")
    return unets


def check_fit(avatar: Path, manifest: dict, driver: Driver, options: RenderOptions) -> None:
    """Compares what `avatar` was trained on, as its `manifest` says, with the driver and the settings.

    Warns where they go together badly: other parsing maps, or a ControlNet of other latents than the UNet's.

    Raises:
        UserError: another size, face model or kind of conditions, or a stage that is needed and not trained.
    """
    # All captures are alike in what follows.
    trained_on = manifest["captures"][0]
    if driver.size != trained_on["size"]:
        size = trained_on["size"]
        raise UserError(
            f"{driver.path} has {driver.size} x {driver.size} pixels, {avatar} was trained on "
            f"{size} x {size}; prepare the driver's video with --size {size}"
        )
    window = manifest["condition"]["outlines"]["window"]
    if manifest["condition"] != condition_spec(window):
        raise UserError(
            f"{avatar} was trained on other conditions than this program draws: {manifest['condition']}, not "
            f"{condition_spec(window)}; train it again"
        )
    face_model, parser = trained_on["face_model"], trained_on["parser"]
    if driver.face_model != face_model:
        raise UserError(
            f"{driver.path} was made with the face model {driver.face_model}, {avatar} was trained on {face_model}; "
            "give a driver with that face model, or --motion relative"
        )
    if options.maps == "driver" and driver.capture.manifest["parser"] != parser:
        warnings.warn(
            f"the parsing maps of {driver.path} are of the parser {driver.capture.manifest['parser']}, {avatar} was "
            f"trained on those of {parser}; prepare the driver with that parser, or leave --maps driver out",
            stacklevel=3,
        )
    if options.maps == "stage1" and "outlines" not in manifest["stages"]:
        raise UserError(f"{avatar} has no outlines stage; train it, or give --maps driver")
    if options.stage == "both" and "details" not in manifest["stages"]:
        raise UserError(f"{avatar} has no details stage; train it, or give --stage outlines")
    if manifest["config"]["vae"]["trainable"] == "all":
        _warn_of_foreign_latents(avatar, stage_unets(options))


def _warn_of_foreign_latents(avatar: Path, unets: dict[str, str]) -> None:
    """A VAE that was tuned with its encoder makes latents that the base's own UNet has never seen."""
    for name, unet in unets.items():
        if unet != "tuned":
            warnings.warn(
                f"{avatar} was trained on latents of its own VAE, but its {name} stage runs with the base's UNet and "
                "VAE, or a mix: the control may be less exact; train with the VAE's decoder alone",
                stacklevel=4,
            )
