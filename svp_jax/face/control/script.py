"""Scripts that move a face, and the settings of `--set`: values of the names that `channels` has.

A script has keys: at a time in seconds, a channel has a value (`script_files` shows how they are written). Between its
keys a channel follows a smooth curve within their range, before the first and after the last it is held (`pchip`).
"""

import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from svp_jax.errors import UserError, outside
from svp_jax.face.control.channels import check_overlap, check_value, resolve
from svp_jax.face.control.pchip import held_curve
from svp_jax.face.control.script_files import Row, Setting, read_rows
from svp_jax.face.morphable.model import FaceModel

FRAME_RATE = Fraction(25)
LONGEST = 86400.0  # Seconds.
MOST_FRAMES = 500_000  # So that a slip of the keyboard asks for no array larger than the memory.


class Key(NamedTuple):
    """A value at a time in seconds; `where` is the file and line that says so."""

    time: float
    value: float
    where: str


@dataclass(frozen=True)
class Script:
    """Keys over time.

    Attributes:
        path: the file.
        keys: of each channel, in order of time, at least one.
        seconds: the length, up to the last key if the file does not say it.
        frame_rate: what the file says, or 25.
    """

    path: Path
    keys: dict[str, tuple[Key, ...]]
    seconds: float
    frame_rate: Fraction

    def check(self, model: FaceModel) -> None:
        """UserError where `model` has no such name, a value is far out of range, or two names set the same."""
        targets = {}
        for name, keys in self.keys.items():
            targets[name] = resolve(name, model, keys[0].where)
            check_overlap(targets, keys[0].where)
            for key in keys:
                check_value(name, key.value, targets[name], key.where)

    def frame_count(self) -> int:
        """How many frames it has: those up to its length, both ends included."""
        # As written, not as a float: 1.16 * 25 would be a little less than 29.
        return int(Fraction(str(self.seconds)) * self.frame_rate) + 1

    def sampled(self, frame_rate: Fraction, frames: int) -> dict[str, np.ndarray]:
        """The values float64 [frames] of each channel; frame n is at n / frame_rate seconds."""
        at = np.arange(frames) * frame_rate.denominator / frame_rate.numerator
        return {
            name: held_curve([key.time for key in keys], [key.value for key in keys], at)
            for name, keys in self.keys.items()
        }


def read_script(path: Path) -> Script:
    """Reads a script; `Script.check` tells whether a face model has its channels.

    Args:
        path: of a UTF-8 file that ends in .csv, .yaml or .yml.

    Raises:
        UserError: names file and line. The file cannot be read or has no keys; a key or setting is unknown, missing,
            given twice, no finite number or out of range; a channel's times do not increase; it has too many frames.
    """
    rows, settings = read_rows(Path(path))
    if not rows:
        raise UserError(f"{path} has no keys; give at least one time, channel and value")
    keys: dict[str, list[Key]] = {}
    for row in rows:
        before = keys.setdefault(row.channel, [])
        before.append(_key(row, before[-1].time if before else -math.inf))
    last = max(channel[-1].time for channel in keys.values())
    script = Script(
        Path(path),
        {name: tuple(channel) for name, channel in keys.items()},
        _seconds(settings["seconds"], last) if "seconds" in settings else last,
        _frame_rate(settings["frame_rate"]) if "frame_rate" in settings else FRAME_RATE,
    )
    count = script.frame_count()
    if count > MOST_FRAMES:
        raise UserError(
            f"{path}: {script.seconds:.10g} s at {script.frame_rate} frames/s are {count} frames, allowed are 1 to "
            f"{MOST_FRAMES}; shorten it or lower its frame_rate"
        )
    return script


def parse_settings(settings: Iterable[str]) -> dict[str, float]:
    """The values by name of texts like "jawOpen=0.5", as `--set` gives them; `channels.apply` checks the names.

    Raises:
        UserError: no `=`, no name, not a finite number, a name given twice.
    """
    values: dict[str, float] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name:
            raise UserError(f"--set {setting}: allowed is NAME=NUMBER, such as jawOpen=0.5")
        value = _number(text, name, "--set")
        if name in values:
            raise UserError(f"--set: {name} is given twice, {values[name]:g} and {value:g}; give it once")
        values[name] = value
    return values


def _key(row: Row, previous: float) -> Key:
    """Of a row whose channel has its key before at the time `previous`."""
    time, value = _number(row.time, "time", row.where), _number(row.value, f"{row.channel}'s value", row.where)
    if problem := outside(time, 0, LONGEST):
        raise UserError(f"{row.where}: time is {time:g}, {problem} seconds")
    if time <= previous:
        raise UserError(
            f"{row.where}: {row.channel} has a key at {time:.10g} s after its key at {previous:.10g} s; "
            "times of a channel must increase, put its keys in order"
        )
    return Key(time, value, row.where)


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"{where}: {name} must be a number, found {reprlib.repr(text)}") from None
    if problem := outside(number, -math.inf, math.inf):
        raise UserError(f"{where}: {name} is {number}, {problem}")
    return number


def _seconds(setting: Setting, last: float) -> float:
    seconds = _number(setting.value, "seconds", setting.where)
    if problem := outside(seconds, last, LONGEST):
        raise UserError(f"{setting.where}: seconds is {seconds:g}, {problem} (the last key is at {last:.10g} s)")
    return seconds


def _frame_rate(setting: Setting) -> Fraction:
    try:
        rate = Fraction(setting.value)
    except (ValueError, ZeroDivisionError):
        found = reprlib.repr(setting.value)
        raise UserError(
            f"{setting.where}: frame_rate is {found}, allowed are numbers such as 25 or 30000/1001"
        ) from None
    if not 1 <= rate <= 240:
        raise UserError(f"{setting.where}: frame_rate is {setting.value}, allowed are 1 to 240")
    return rate
