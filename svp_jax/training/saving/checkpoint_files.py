"""One folder of checkpoints: what lies there was complete once, or a kill left it.

    FOLDER/<finished steps>/state/            as Orbax wrote it
    FOLDER/<finished steps>/checkpoint.json   step, what `save` was told, the tensors' types, SHA-256 of state/

A checkpoint lies in `<steps>.<attempt>.new` until it is complete and becomes one by that folder's renaming; it is
renamed to `<steps>.old` before its files are removed. So whatever has a number for its name was complete once, and
what a kill leaves has none.
"""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

from svp_jax.manifest import CHECKSUM, checksum, sha256_folder

FILE = "checkpoint.json"


def steps(folder: Path) -> list[int]:
    """Of all that were complete once, ascending."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where it is what was saved."""
    try:
        content = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))
        if content[CHECKSUM] != checksum(content):
            return f"{FILE} is not what was written"
        if content["state_sha256"] != sha256_folder(checkpoint / "state"):
            return "its files are not what was written"
    except FileNotFoundError:
        return f"no {FILE}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {error}"
    return None


def commit(new: Path, content: dict) -> None:
    """Makes `new`, to which Orbax has written, the checkpoint that `content` describes; it survives a power cut."""
    content = {**content, "state_sha256": sha256_folder(new / "state")}
    content[CHECKSUM] = checksum(content)
    (new / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path in (*new.rglob("*"), new):
        _sync(path)
    checkpoint = new.with_name(str(content["step"]))
    _move_away(checkpoint)
    new.rename(checkpoint)
    _sync(checkpoint.parent)


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_away(checkpoint: Path) -> None:
    """Makes it a leftover, where it is there: half removed, it must not look like a checkpoint."""
    if checkpoint.exists():
        old = checkpoint.with_name(checkpoint.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        checkpoint.rename(old)


def remove_all_but(folder: Path, keep: set) -> None:
    """What cannot be removed is tried again after the next save."""
    with contextlib.suppress(OSError):
        for step in steps(folder):
            if step not in keep:
                _move_away(folder / str(step))
        remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        if re.fullmatch(r"\d+(\.\d+\.new|\.old)", path.name):
            shutil.rmtree(path, ignore_errors=True)
