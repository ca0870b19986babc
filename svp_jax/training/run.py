"""A finished avatar gets the stage that it lacks; which settings may change while a run is unfinished."""

import json
import shutil
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.manifest import FILE_NAMES, read_manifest
from svp_jax.unfinished import changes


def avatar_without(out: Path, names: tuple[str, ...]) -> dict | None:
    """The manifest of `out` where that is a finished avatar without any of the stages `names`.

    Raises:
        UserError: it has one of them and lacks another.
    """
    if not (out / FILE_NAMES["avatar"]).is_file():
        return None
    manifest = read_manifest(out, "avatar")
    there = [name for name in names if name in manifest["stages"]]
    lacking = [name for name in names if name not in there]
    if there and lacking:
        raise UserError(
            f"--out {out} has the stage {there[0]} already; use --stage {lacking[0]} to add what it lacks, "
            "or add --force to train both anew"
        )
    return None if there else manifest


def check_same_settings(out: Path, manifest: dict, run: dict) -> None:
    """Raises UserError where the finished avatar `out` was trained with other settings than the stage that joins it."""
    settings = {name: run[name] for name in ("base", "captures", "config")}
    if changed := changes(manifest, json.loads(json.dumps(settings)), HOW):
        raise UserError(
            f"--out {out} is an avatar with {changed}; use the same settings to add a stage, "
            "or add --force to replace it"
        )


# How a run is carried out, not what comes of it: may be changed when it goes on, so that the advice of an error can be
# followed, and on other devices.
HOW = {
    f"config.{name}"
    for name in (
        "parallel", "stages_at_once", "device", "accumulation", "remat", "loader_processes", "save_every",
        "preview_every",
    )
}  # fmt: skip


def copy_parts(out: Path, manifest: dict, folder: Path) -> None:
    """Copies the finished avatar's networks, logs and previews; what an interrupted run has copied stays."""
    for name in (*manifest["files"], "training"):
        if not (folder / name).exists():
            beside = folder / (name + ".copy")
            if (out / name).is_dir():
                shutil.copytree(out / name, beside, dirs_exist_ok=True)
            else:
                shutil.copy(out / name, beside)
            beside.rename(folder / name)
