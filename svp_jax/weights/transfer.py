"""An avatar moved to another base of the same family, by the difference of the two bases.

Source: ControlNet's `tool_transfer_control.py`: control' = control + (new base - old base), tensor by tensor where both
have one; VAE and text encoder are the new base's.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from svp_jax.diffusion.schedule import SchedulerConfig
from svp_jax.errors import UserError
from svp_jax.manifest import CHECKSUM, FACE, body_of, write_manifest
from svp_jax.weights.avatar import open_avatar, part_hashes, stage_networks
from svp_jax.weights.base import BaseFiles, base_name, encoder_shape, open_base
from svp_jax.weights.component import Component
from svp_jax.weights.folder import write_model
from svp_jax.weights.target import check_target, new_folder
from svp_jax.weights.tensors import LazyTensor


def transfer(old_base: str | Path, new_base: str | Path, avatar: Path, target: Path, unet: bool = False) -> Path:
    """Moves an avatar's ControlNets to another base; returns the folder of the new avatar.

    A decoder that was tuned on the person comes along, since the latents stay those of the family.

    Args:
        old_base: the base that the avatar was trained on, a path or "tiny".
        new_base: a base of the same architecture.
        avatar: its folder.
        target: of the new avatar.
        unet: move the tuned UNets too; otherwise the new avatar's stages take the new base's own.

    Raises:
        UserError: the bases are built differently, the avatar was trained on another base than the old one, its VAE has
            latents of its own that the new base does not know, or the target exists.
    """
    avatar, target = Path(avatar), Path(target)
    check_target(target)
    manifest, old = open_avatar(avatar, old_base)
    new = open_base(new_base)
    configs = [encoder_shape(base.components["unet"].config) for base in (old, new)]
    if configs[0] != configs[1]:
        keys = ", ".join(key for key in configs[0] if configs[0][key] != configs[1][key])
        raise UserError(f"{new.path} is built differently than {old.path} ({keys}); a transfer needs the same family")
    predictions = [SchedulerConfig.from_json(base.scheduler).prediction_type for base in (old, new)]
    if predictions[0] != predictions[1]:
        raise UserError(f"{old.path} predicts {predictions[0]}, {new.path} {predictions[1]}; a transfer needs the same")
    if manifest["vae_tuned"] and manifest["config"]["vae"]["trainable"] == "all" and not unet:
        raise UserError(
            f"{avatar}: its whole VAE was tuned, and no base knows its latents; add --unet to move its UNets too"
        )
    stages = {name: dict(settings) for name, settings in manifest["stages"].items()}
    with new_folder(target) as folder:
        for name, settings in stages.items():
            networks = stage_networks(avatar, manifest, old, name)
            write_model(moved(networks["controlnet"], old, new), folder / name / "controlnet")
            if settings["trainable"] == "locked":
                continue
            if unet:
                write_model(moved(networks["unet"], old, new), folder / name / "unet")
            else:
                settings["trainable"] = "locked"
        if manifest["vae_tuned"]:
            write_model(networks["vae"], folder / "vae")
        if (avatar / FACE).is_file():
            shutil.copy(avatar / FACE, folder / FACE)
        body = body_of(manifest)
        body["transferred"] = {"from": manifest["base"], "avatar_sha256": manifest[CHECKSUM], "unet": unet}
        body["base"] = {"path": base_name(new_base), "sha256": new.sha256()}
        write_manifest(folder, "avatar", body | {"stages": stages, "files": part_hashes(folder)})
    return target


def moved(network: Component, old: BaseFiles, new: BaseFiles) -> Component:
    """A ControlNet or UNet plus the difference of the bases' UNets, in its own dtype; sums are in float32."""
    before, after = old.components["unet"].tensors, new.components["unet"].tensors

    def added(name: str, tensor: LazyTensor) -> LazyTensor:
        def change(value: np.ndarray) -> np.ndarray:
            difference = after[name].read().astype(np.float32) - before[name].read().astype(np.float32)
            return (value.astype(np.float32) + difference).astype(tensor.dtype)

        return tensor.map(change) if name in before else tensor

    return replace(network, tensors={name: added(name, tensor) for name, tensor in network.tensors.items()})
