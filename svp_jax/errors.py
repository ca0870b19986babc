"""The one exception for bad input: the command line prints it as one line and exits with 2."""

import math


class UserError(ValueError):
    """Bad input from outside: a file, a folder, a flag or a config key.

    The message is one line that names the file or flag, says what is wrong, what is allowed and what to do.
    """


def outside(value: float, low: float, high: float) -> str:
    """Empty where `value` is finite and in [low, high]; else what is allowed, for a UserError's message."""
    if math.isfinite(value) and low <= value <= high:
        return ""
    if not math.isfinite(low):
        return "allowed are finite numbers"
    return f"allowed are {low:g} to {high:.10g}" if math.isfinite(high) else f"allowed are {low:g} or more"
