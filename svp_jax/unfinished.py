"""What an interrupted result was started with: the same command goes on, one with other settings does not."""

import json
import sys
from collections.abc import Collection
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.manifest import partial_folder, read_json, write_json


def check_same_run(path: Path, run: dict, out: Path, may_change: Collection[str], instead: str) -> None:
    """Writes what `run` was started with to `path`; where that is there, the settings must be the same.

    Args:
        run: nested settings, as JSON has them.
        out: the finished folder that comes of it.
        may_change: dotted names of settings that do not decide what comes of the run.
        instead: what to do to start anew, for the message.

    Raises:
        UserError: they are not.
    """
    if not path.exists():
        write_json(path, run)
        return
    if changed := changes(read_json(path), run, may_change):
        raise UserError(
            f"{partial_folder(out)} is an unfinished run with {changed}; use the same settings to go on, or {instead}"
        )
    print(f"going on with the unfinished run in {path.parent}", file=sys.stderr)


def changes(earlier: dict, now: dict, may_change: Collection[str]) -> str:
    """The first settings of `now` that were others in `earlier`, in words; nothing where all are the same."""
    # As JSON has them: it knows no tuples.
    earlier, now = (_leaves(json.loads(json.dumps(content))) for content in (earlier, now))
    # Where inputs lie does not matter, their hashes do.
    names = [name for name in now if name.split(".")[-1] != "path" and name not in may_change]
    names = [name for name in names if earlier.get(name) != now[name]]
    return ", ".join(f"{name} {earlier.get(name)!r}, not {now[name]!r}" for name in names[:3])


def _leaves(content: dict, prefix: str = "") -> dict[str, object]:
    """Nested dictionaries, and lists of them by number, as one, with dotted names."""
    flat = {}
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {"count": len(value), **{str(number): each for number, each in enumerate(value)}}
        flat |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
