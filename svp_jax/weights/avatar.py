"""An avatar on disk: two stages, each a ControlNet and (unless locked) a tuned UNet, and what they were made from.

avatar/
  avatar.json                    the manifest: base, captures, prompt, condition spec, temporal weights, settings
  outlines/controlnet/ [unet/]   Stage I
  details/controlnet/ [unet/]    Stage II
  [vae/]                         where the VAE was tuned on the person
  [face.npz]                     the first capture's fitted face model, to be moved by others
  training/                      logs and previews
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp

from svp_jax.errors import UserError
from svp_jax.manifest import FACE, content_sha256, read_manifest
from svp_jax.models.controlnet import ControlNet
from svp_jax.models.unet import UNet
from svp_jax.models.vae import VAE
from svp_jax.weights.base import Base, BaseFiles, load_base, open_base
from svp_jax.weights.component import Component
from svp_jax.weights.folder import load_model, open_model

STAGES = ("outlines", "details")


@dataclass(frozen=True)
class StageNetworks:
    """The two networks of one stage; `unet` is the base's own where the stage was trained locked, or on demand."""

    controlnet: ControlNet
    unet: UNet


@dataclass(frozen=True)
class Avatar:
    """An opened avatar. `stages` holds those that were trained and asked for, by name."""

    folder: Path
    manifest: dict
    base: Base
    vae: VAE
    stages: dict[str, StageNetworks]


def load_avatar(
    folder: Path,
    base: str | Path | None = None,
    stages: Mapping[str, Literal["tuned", "base", "both"]] | None = None,
    dtype=jnp.float32,
) -> Avatar:
    """Opens an avatar and its base.

    Args:
        base: where the base lies now, if not where it lay in training.
        stages: the stages to open, each with the UNet to take ("both": its own, and the base's is there beside it);
            only the networks that these need are loaded. None: all stages with their own UNets, and the base's UNet,
            VAE and text encoder.
        dtype: what UNets and ControlNets compute in; the rest does in float32.

    Raises:
        UserError: not a finished avatar, a missing or misfitting weight file, or another base than in training.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, "avatar")
    asked = dict.fromkeys(STAGES, "tuned") if stages is None else stages
    unets = {name: unet for name, unet in asked.items() if name in manifest["stages"]}
    for name in unets:
        if manifest["stages"][name]["trainable"] == "locked":
            unets[name] = "base"
    needed = {"text_encoder"}
    if stages is None or {"base", "both"} & {*unets.values()}:
        needed.add("unet")
    # The base's own UNet, where it is asked for, goes with the base's own VAE.
    if stages is None or not manifest["vae_tuned"] or {"base", "both"} & {*asked.values()}:
        needed.add("vae")
    opened = load_base(_base_path(folder, manifest, base), needed, dtype)
    _check_base(folder, manifest, opened.path, opened.sha256)
    networks = {
        name: StageNetworks(
            load_model(folder / name / "controlnet", dtype),
            opened.unet if unet == "base" else load_model(folder / name / "unet", dtype),
        )
        for name, unet in unets.items()
    }
    vae = load_model(folder / "vae") if manifest["vae_tuned"] else opened.vae
    return Avatar(folder, manifest, opened, vae, networks)


def open_avatar(folder: Path, base: str | Path | None = None) -> tuple[dict[str, Any], BaseFiles]:
    """An avatar's manifest and its base, unread; UserError and `base` as for `load_avatar`."""
    folder = Path(folder)
    manifest = read_manifest(folder, "avatar")
    files = open_base(_base_path(folder, manifest, base))
    _check_base(folder, manifest, files.path, files.sha256())
    return manifest, files


def stage_networks(folder: Path, manifest: dict[str, Any], base: BaseFiles, stage: str) -> dict[str, Component]:
    """All that a pipeline needs of one stage, unread, by the name of its folder in diffusers' layout.

    The stage's ControlNet and UNet, the avatar's VAE, the base's text encoder; what it lacks is the base's.

    Raises:
        UserError: the avatar lacks the stage, or a network of it cannot be opened.
    """
    if stage not in manifest["stages"]:
        raise UserError(f"{folder} has no stage {stage}; it has {', '.join(manifest['stages'])}")
    networks = base.components | {"controlnet": open_model(folder / stage / "controlnet")}
    if manifest["stages"][stage]["trainable"] != "locked":
        networks["unet"] = open_model(folder / stage / "unet")
    if manifest["vae_tuned"]:
        networks["vae"] = open_model(folder / "vae")
    return networks


def _base_path(folder: Path, manifest: dict[str, Any], given: str | Path | None) -> str | Path:
    there = manifest["base"]["path"]
    if given is None and there != "tiny" and not Path(there).exists():
        raise UserError(f"{folder} needs its base, which lay in {there}; say with --base where it is")
    return given or there


def _check_base(folder: Path, manifest: dict[str, Any], path: Path, sha256: str) -> None:
    expected = manifest["base"]["sha256"]
    if sha256 != expected:
        raise UserError(
            f"{folder} was trained on the base with sha256 {expected[:12]}, {path} has {sha256[:12]}; "
            "give the base that it was trained on"
        )


def part_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each stage's folder, of the VAE's and of the face, of those that are there; every file is read."""
    there = [name for name in (*STAGES, "vae", FACE) if (Path(folder) / name).exists()]
    return {name: content_sha256(Path(folder) / name) for name in there}
