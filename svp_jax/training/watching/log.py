"""The log of a run: JSON lines, always, and the same for TensorBoard with the previews."""

import contextlib
import errno
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from svp_jax.training.watching import event_file

LINES = "log.jsonl"
EVENTS = "tensorboard"


class TrainingLog:
    """Writes `log.jsonl` and `tensorboard/` in one folder; a context manager.

    A line of `log.jsonl` is strict JSON: {"step": ..., name: value, ...}. A value that is not finite is null there, and
    {"non_finite": {name: "nan", "inf" or "-inf"}} says which it was. TensorBoard has it as it is.

    What the disk refuses is left out whole, with one warning: training goes on.

    Args:
        start: finished steps of the checkpoint that the run goes on from, 0 for none. Later lines are dropped, since
            the run writes them again, and so is one that a kill cut off.
    """

    def __init__(self, folder: Path, start: int):
        self._folder, self._start = Path(folder), start
        self._warned = False

    def __enter__(self) -> "TrainingLog":
        events = self._folder / EVENTS
        events.mkdir(parents=True, exist_ok=True)
        _drop_after(self._folder / LINES, self._start)
        # TensorBoard reads the files in the order of their names.
        number = len(list(events.iterdir()))
        with contextlib.ExitStack() as stack:
            self._lines = stack.enter_context(open(self._folder / LINES, "ab", buffering=0))
            path = events / f"events.out.tfevents.{number:06d}"
            self._events = stack.enter_context(open(path, "xb", buffering=0))
            # Without a checkpoint nothing stays, else all up to it.
            purge_step = self._start + 1 if self._start else 0
            self._append(self._events, event_file.file_start(time.time(), purge_step))
            self._files = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._files.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a line of named floats or whole numbers after `step` finished steps.

        Raises:
            TypeError: a value is something else, such as an array that still lies on a device.
        """
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} is {type(value).__name__}; logged are floats and whole numbers")
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": step, **finite}
        if wrong := {name: str(float(values[name])) for name, value in finite.items() if value is None}:
            line["non_finite"] = wrong
        self._append(self._lines, json.dumps(line, allow_nan=False).encode() + b"\n")
        self._append(self._events, event_file.scalars(time.time(), step, values))

    def picture(self, step: int, name: str, path: Path) -> None:
        """Adds the PNG file `path` to TensorBoard's pictures."""
        self._append(self._events, event_file.picture(time.time(), step, name, Path(path).read_bytes()))

    def _append(self, file, piece: bytes) -> None:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(piece) < len(piece):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # Half a line or record would make the rest of the file unreadable.
            file.truncate(end)
            if not self._warned:
                warnings.warn(
                    f"{file.name}: cannot write ({error.strerror}); training goes on, and the log has a gap here",
                    stacklevel=3,
                )
            self._warned = True


def copy_log(folder: Path, to: Path) -> None:
    """Copies the files of a finished log."""
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / LINES, to / LINES)
    shutil.copytree(folder / EVENTS, to / EVENTS, dirs_exist_ok=True)


def _drop_after(path: Path, step: int) -> None:
    """Drops the lines after `step` (all for 0, the state that no checkpoint holds), and one that a kill cut off."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    kept = ""
    for line in text.split("\n")[:-1] if step else []:
        try:
            later = json.loads(line)["step"] > step
        except (ValueError, TypeError, KeyError):
            # What a power cut leaves; nothing after it can be trusted.
            break
        kept += "" if later else line + "\n"
    if kept == text:
        return
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(kept, encoding="utf-8")
    beside.replace(path)
