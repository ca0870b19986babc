"""The training state on disk: written by Orbax beside the training, verified, pruned, finished or not there.

    FOLDER/<finished steps>/state/            as Orbax wrote it
    FOLDER/<finished steps>/checkpoint.json   step, `about`, the tensors' shapes and types, SHA-256 of state/

A checkpoint lies in `<steps>.<attempt>.new` until it is complete and becomes one by that folder's renaming; it is
renamed to `<steps>.old` before its files are removed. So whatever has a number for its name was complete once, and
what a kill leaves has none.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from svp_jax.errors import UserError
from svp_jax.manifest import CHECKSUM, checksum, sha256_folder

FILE = "checkpoint.json"
# In place of a step, in what process 0 tells the others.
NONE, NONE_GOOD = -1, -2
# Orbax numbers its saves for the whole process; two stages may train in two threads.
_starting = threading.Lock()
# It also logs a failed write as several tracebacks, hundreds of lines for what `_give_up` says in one.
logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))


class Checkpoints:
    """The training state below one folder: the two newest checkpoints, each verified when written and when read.

    With several processes every one makes the same calls in the same order, and all see the same folder. Each writes
    its part of the state; process 0 verifies and removes. One run at a time may use a folder.
    """

    def __init__(self, folder: Path):
        """Makes the folder and removes what a killed run left unfinished there."""
        self._folder = Path(folder)
        self._newest: int | None = None  # Of those known to be what was saved.
        self._writer: threading.Thread | None = None
        self._attempts = 0
        if jax.process_index() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self._folder)

    def restore(self, like, about: dict):
        """The newest checkpoint that is what was saved, as (finished steps, state); None where nothing was saved.

        Warns where a newer one is damaged.

        Args:
            like: pytree of `jax.ShapeDtypeStruct` with shardings: the state's structure and where it shall be placed,
                on any number of devices, replicated or sharded, however it was saved.
            about: what `save` was given.

        Raises:
            UserError: all checkpoints are damaged, or the newest good one has other tensors or another `about`.
        """
        found = _broadcast(self._find_newest() if jax.process_index() == 0 else NONE)
        if found == NONE:
            return None
        if found == NONE_GOOD:
            raise UserError(
                f"{self._folder}: every checkpoint is damaged ({_damages(self._folder)}); remove it to start anew"
            )
        self._newest = found
        tensors = _by_name(like)
        saved = json.loads((self._folder / str(found) / FILE).read_text(encoding="utf-8"))
        differences = _about_differences(saved["about"], about) or _tensor_differences(saved["tensors"], tensors)
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise UserError(
                f"{self._folder / str(found)} was saved with {', '.join(differences[:3])}{more}; "
                f"use the same settings to go on, or remove {self._folder} to start anew"
            )
        with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as orbax:
            path = (self._folder / str(found) / "state").resolve()
            restored = orbax.restore(path, args=ocp.args.StandardRestore(tensors))
        return found, jax.tree.unflatten(jax.tree.structure(like), [restored[name] for name in tensors])

    def save(self, step: int, state, about: dict) -> None:
        """Starts writing a checkpoint after `step` finished steps; waits for one that is still being written.

        Returns when the state is copied off the devices, so its buffers may be donated. The older checkpoint but one is
        removed when this one is verified. Where it cannot be written, as on a full disk, a warning says so, nothing of
        it stays, and what was there stays.

        Args:
            state: pytree of `jax.Array`, replicated over the devices or sharded.
            about: what made the state, as JSON; `restore` wants the same.
        """
        if self.wait() == step:
            return
        tensors = _by_name(state)
        content = {
            "step": step,
            "about": json.loads(json.dumps(about)),
            "tensors": {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in tensors.items()},
        }
        # Orbax may still be writing files of an attempt that it has given up, and leave a barrier not reached.
        self._attempts += 1
        new = self._folder / f"{step}.{self._attempts}.new"
        processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=str(new))
        try:
            with _starting:
                orbax = ocp.AsyncCheckpointer(
                    ocp.StandardCheckpointHandler(multiprocessing_options=processes), multiprocessing_options=processes
                )
                orbax.save((new / "state").resolve(), args=ocp.args.StandardSave(tensors))
        except (OSError, ValueError) as error:
            # Orbax reports a refused write as either.
            self._give_up(step, error)
            return
        self._writer = threading.Thread(target=self._finish, args=(orbax, new, content), name=f"checkpoint {step}")
        self._writer.start()

    def wait(self) -> int | None:
        """Waits until nothing is being written; the newest checkpoint that was restored or written, if any."""
        self.close()
        newest = _broadcast(NONE if self._newest is None else self._newest)
        self._newest = None if newest == NONE else newest
        return self._newest

    def close(self) -> None:
        """Waits until nothing is being written by this process."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _finish(self, orbax: ocp.AsyncCheckpointer, new: Path, content: dict) -> None:
        """In a thread of its own: waits for Orbax, then makes `new`, where it writes, a checkpoint."""
        step = content["step"]
        try:
            with contextlib.closing(orbax):
                orbax.wait_until_finished()
            if jax.process_index() == 0:
                _commit(new, content)
                _remove_all_but(self._folder, {step, self._newest})
        except Exception as error:
            # Whatever it is would be lost with the thread.
            self._give_up(step, error)
        else:
            self._newest = step

    def _give_up(self, step: int, error: Exception) -> None:
        if jax.process_index() == 0:
            _remove_leftovers(self._folder)
        # TensorStore names many files before the cause.
        cause = " ".join(str(error).rsplit('": ', 1)[-1].split())[:200]
        older = "there is no older one" if self._newest is None else f"that of step {self._newest} stays"
        warnings.warn(
            f"{self._folder}: the checkpoint of step {step} could not be written ({cause}); {older}; "
            f"{shutil.disk_usage(self._folder).free / 1e9:.1f} GB are free; training goes on",
            stacklevel=2,
        )

    def _find_newest(self) -> int:
        """The newest checkpoint that is what was saved, NONE or NONE_GOOD; warns of newer ones."""
        damaged = []
        for step in reversed(_steps(self._folder)):
            damage = _damage(self._folder / str(step))
            if damage is None:
                if damaged:
                    warnings.warn(
                        f"{self._folder}: damaged: {', '.join(damaged)}; going on from the checkpoint of step {step}",
                        stacklevel=3,
                    )
                return step
            damaged.append(f"{step} ({damage})")
        return NONE_GOOD if damaged else NONE


def _broadcast(step: int) -> int:
    """What process 0 calls this with, in every process."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(step)))


def _by_name(tree) -> dict:
    """The leaves of a pytree by their path in it, like ".optimizer[1].mu['unet/conv_in/bias']", in its order."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _about_differences(saved: dict, now: dict) -> list[str]:
    """In words, with dotted names."""
    saved, now = (
        {
            jax.tree_util.keystr(path, simple=True, separator="."): repr(value)
            for path, value in jax.tree_util.tree_leaves_with_path(about, is_leaf=lambda value: value is None)
        }
        for about in (saved, json.loads(json.dumps(now)))
    )
    return _differences(saved, now)


def _tensor_differences(saved: dict[str, list], like: dict[str, jax.ShapeDtypeStruct]) -> list[str]:
    now = {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in like.items()}
    saved, now = (
        {f"the tensor {name}": f"{dtype}{shape}" for name, (shape, dtype) in tensors.items()}
        for tensors in (saved, now)
    )
    return _differences(saved, now)


def _differences(saved: dict[str, str], now: dict[str, str]) -> list[str]:
    return [
        f"{name} {saved.get(name, 'absent')}, not {now.get(name, 'absent')}"
        for name in dict.fromkeys((*now, *saved))
        if saved.get(name) != now.get(name)
    ]


def _steps(folder: Path) -> list[int]:
    """Of all that were complete once, ascending."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _damage(checkpoint: Path) -> str | None:
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


def _damages(folder: Path) -> str:
    return ", ".join(f"{step}: {_damage(folder / str(step))}" for step in reversed(_steps(folder)))


def _commit(new: Path, content: dict) -> None:
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


def _remove_all_but(folder: Path, keep: set) -> None:
    """What cannot be removed is tried again after the next save."""
    with contextlib.suppress(OSError):
        for step in _steps(folder):
            if step not in keep:
                _move_away(folder / str(step))
        _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        if re.fullmatch(r"\d+(\.\d+\.new|\.old)", path.name):
            shutil.rmtree(path, ignore_errors=True)
