"""An avatar on disk: two stages, each a ControlNet and (unless locked) a tuned UNet, and what they were made from.

avatar/
  avatar.json                    the manifest: base, capture, prompt, condition spec, temporal weights, settings
  outlines/controlnet/ [unet/]   Stage I
  details/controlnet/ [unet/]    Stage II
  [vae/]                         where the VAE was tuned on the person
  training/                      logs and previews
"""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp

from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest, sha256_folder
from svp_jax.models.controlnet import ControlNet
from svp_jax.models.unet import UNet
from svp_jax.models.vae import VAE
from svp_jax.weights.base import Base, load_base
from svp_jax.weights.folder import load_model

STAGES = ("outlines", "details")


@dataclass(frozen=True)
class Stage:
    """The two networks of one stage; `unet` is the base's own where the stage was trained locked."""

    controlnet: ControlNet
    unet: UNet


@dataclass(frozen=True)
class Avatar:
    """An opened avatar. `stages` holds those that were trained, by name."""

    folder: Path
    manifest: dict
    base: Base
    vae: VAE
    stages: dict[str, Stage]


def load_avatar(folder: Path, dtype: jnp.dtype = jnp.float32, base: str | Path | None = None) -> Avatar:
    """Opens an avatar and its base.

    Args:
        base: where the base lies now, if not where it lay in training.

    Raises:
        UserError: not a finished avatar, a missing or misfitting weight file, or another base than in training.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, "avatar")
    trained_on = manifest["base"]
    if base is None and trained_on["path"] != "tiny" and not Path(trained_on["path"]).exists():
        raise UserError(f"{folder} needs its base, which lay in {trained_on['path']}; put it back there")
    opened = load_base(base or trained_on["path"], dtype)
    if opened.sha256 != trained_on["sha256"]:
        raise UserError(
            f"{folder} was trained on the base with sha256 {trained_on['sha256'][:12]}, {opened.folder} has "
            f"{opened.sha256[:12]}; give the base that it was trained on"
        )
    stages = {}
    for name in manifest["stages"]:
        tuned = folder / name / "unet"
        stages[name] = Stage(
            load_model(folder / name / "controlnet", dtype),
            load_model(tuned, dtype) if manifest["stages"][name]["trainable"] != "locked" else opened.unet,
        )
    vae = load_model(folder / "vae", dtype) if manifest["vae_tuned"] else opened.vae
    return Avatar(folder, manifest, opened, vae, stages)


def part_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each stage's folder and of the VAE's, of those that are there; every file is read."""
    return {name: sha256_folder(Path(folder) / name) for name in (*STAGES, "vae") if (Path(folder) / name).is_dir()}
