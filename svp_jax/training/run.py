"""What a run was started with: an unfinished one goes on, a finished avatar gets the stage that it lacks."""

import json
import shutil
import sys
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.manifest import FILE_NAMES, partial_folder, read_manifest, write_json


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


def check_same_run(path: Path, run: dict, out: Path) -> None:
    """Writes what `run` was started with to `path`; where that is there, the settings must be the same.

    Raises:
        UserError: they are not.
    """
    run = json.loads(json.dumps(run))
    if not path.exists():
        write_json(path, run)
        return
    if changed := _changes(json.loads(path.read_text(encoding="utf-8")), run):
        raise UserError(
            f"{partial_folder(out)} is an unfinished run with {changed}; "
            "use the same settings to go on, or remove it to start anew"
        )
    print(f"going on with the unfinished run in {path.parent}", file=sys.stderr)


def check_same_settings(out: Path, manifest: dict, run: dict) -> None:
    """Raises UserError where the finished avatar `out` was trained with other settings than the stage that joins it."""
    settings = {name: run[name] for name in ("base", "captures", "config")}
    if changed := _changes(manifest, json.loads(json.dumps(settings))):
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


def _changes(earlier: dict, now: dict) -> str:
    """The first settings of `now` that were others in `earlier`, in words; nothing where all are the same."""
    earlier, now = _leaves(earlier), _leaves(now)
    # Where base and captures lie does not matter, their hashes do.
    names = [name for name in now if not name.endswith(".path") and name not in HOW and earlier.get(name) != now[name]]
    return ", ".join(f"{name} {earlier.get(name)!r}, not {now[name]!r}" for name in names[:3])


def _leaves(content: dict, prefix: str = "") -> dict[str, object]:
    """Nested dictionaries, and lists of them by number, as one, with dotted names."""
    flat = {}
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {"count": len(value), **{str(number): each for number, each in enumerate(value)}}
        flat |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


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
