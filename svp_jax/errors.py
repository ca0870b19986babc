"""What ends a command early with one line: bad input or too little memory (exit 2), a signal that asked it to stop."""

import difflib
import math
import signal
from collections.abc import Collection

# In every message of XLA that a device is out of memory.
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


class UserError(ValueError):
    """Bad input from outside: a file, a folder, a flag or a config key.

    The message is one line that names the file or flag, says what is wrong, what is allowed and what to do.
    """


class Stopped(Exception):
    """Training stopped because a signal asked it to; all is saved, and the same command goes on.

    Attributes:
        signal: which one.
    """

    def __init__(self, message: str, number: signal.Signals):
        super().__init__(message)
        self.signal = number


def outside(value: float, low: float, high: float) -> str:
    """Empty where `value` is finite and in [low, high]; else what is allowed, for a UserError's message."""
    if math.isfinite(value) and low <= value <= high:
        return ""
    if not math.isfinite(low):
        return "allowed are finite numbers"
    return f"allowed are {low:g} to {high:.10g}" if math.isfinite(high) else f"allowed are {low:g} or more"


def check_keys(content: object, known: Collection[str], where: str, prefix: str = "") -> None:
    """Raises UserError unless `content` is a mapping with no key but the `known`; names the nearest of these.

    Args:
        where: the file or flag, as the message begins.
        prefix: of the keys, like "vae." for a mapping within another.
    """
    if not isinstance(content, dict):
        about = prefix.rstrip(".") or "the file"
        raise UserError(f"{where}: {about} must hold `key: value` lines, found {content!r}")
    for key in content:
        if key not in known:
            raise UserError(f"{where}: unknown key {prefix}{key}; {nearest(str(key), known, prefix)}")


def nearest(name: str, known: Collection[str], prefix: str = "") -> str:
    """Which of the `known` names was meant, or where none is near all of them, for a UserError's message."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}"
