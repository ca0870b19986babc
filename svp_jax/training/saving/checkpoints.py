"""The training state on disk: written by Orbax beside the training, verified, pruned, finished or not there."""

import contextlib
import json
import logging
import shutil
import threading
import warnings
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from svp_jax.errors import UserError
from svp_jax.training import hosts
from svp_jax.training.saving.checkpoint_files import FILE, commit, damage, remove_all_but, remove_leftovers, steps

# In place of a step, in what process 0 tells the others.
NONE, NONE_GOOD = -1, -2
# Orbax numbers its saves for the whole process; two stages may train in two threads.
_starting = threading.Lock()
# It also logs a failed write as several tracebacks, hundreds of lines for what `_give_up` says in one.
logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))


class Checkpoints:
    """The training state below one folder: the two newest checkpoints, each verified when written and when read.

    With several processes every one makes the same calls in the same order, and all see the same folder. Each writes
    its part of the state; process 0 verifies and removes. One run at a time may use a folder; it restores first.
    """

    def __init__(self, folder: Path):
        """Makes the folder and removes what a killed run left unfinished there."""
        self._folder = Path(folder)
        self._newest: int | None = None  # Of those known to be what was saved.
        self._writer: threading.Thread | None = None
        self._attempts = 0
        if hosts.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._folder)

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
        found = _broadcast(self._find_newest() if hosts.is_first() else NONE)
        if found == NONE:
            return None
        if found == NONE_GOOD:
            damages = ", ".join(f"{step}: {damage(self._folder / str(step))}" for step in reversed(steps(self._folder)))
            raise UserError(f"{self._folder}: every checkpoint is damaged ({damages}); remove it to start anew")
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
            if hosts.is_first():
                commit(new, content)
                remove_all_but(self._folder, {step, self._newest})
        except Exception as error:
            # Whatever it is would be lost with the thread.
            self._give_up(step, error)
        else:
            self._newest = step

    def _give_up(self, step: int, error: Exception) -> None:
        if hosts.is_first():
            remove_leftovers(self._folder)
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
        for step in reversed(steps(self._folder)):
            what = damage(self._folder / str(step))
            if what is None:
                if damaged:
                    warnings.warn(
                        f"{self._folder}: damaged: {', '.join(damaged)}; going on from the checkpoint of step {step}",
                        stacklevel=3,
                    )
                return step
            damaged.append(f"{step} ({what})")
        return NONE_GOOD if damaged else NONE


def _broadcast(step: int) -> int:
    """What process 0 calls this with, in every process."""
    return int(hosts.as_first_says(np.int32(step)))


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
