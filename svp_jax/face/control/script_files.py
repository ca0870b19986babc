"""The keys that a script file has, as they are written there; `script` says what they mean.

A CSV has a key a line:            A YAML has them by channel,        or one after the other:

    time,channel,value                 frame_rate: 25                     - {time: 0, channel: yaw, value: -20}
    0,yaw,-20                          seconds: 3                         - {time: 2, channel: yaw, value: 20}
    2,yaw,20                           yaw: {0: -20, 2: 20}               - {time: 1, channel: smile, value: 0.8}
    1,smile,0.8                        smile: [[1, 0.8]]
"""

import csv
import io
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from svp_jax.errors import UserError, check_keys, nearest

SETTINGS = ("frame_rate", "seconds")
_COLUMNS = ("time", "channel", "value")
_CHANNEL = "{time: value, ...} or [[time, value], ...]"


class Row(NamedTuple):
    """One key; `where` is the file and line."""

    channel: str
    time: str
    value: str
    where: str


class Setting(NamedTuple):
    """What a YAML says about the whole script; `where` is the file and line."""

    value: str
    where: str


def read_rows(path: Path) -> tuple[list[Row], dict[str, Setting]]:
    """The keys in the order of the file, and what it says of `SETTINGS`.

    Raises:
        UserError: names file and line: what cannot be read, is unknown, missing or given twice.
    """
    readers = {".csv": _csv, ".yaml": _yaml, ".yml": _yaml}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: has the ending {path.suffix!r}, allowed are {', '.join(readers)}")
    try:
        # Spreadsheets begin their UTF-8 with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a script that ends in {', '.join(readers)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    return readers[path.suffix.lower()](text, path)


def _csv(text: str, path: Path) -> tuple[list[Row], dict[str, Setting]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    header, rows = None, []
    try:
        for line in reader:
            cells, where = [cell.strip() for cell in line], f"{path}, line {reader.line_num}"
            if not any(cells):
                continue
            if header is None:
                header = cells
                if sorted(header) != sorted(_COLUMNS):
                    found = reprlib.repr(",".join(header))
                    raise UserError(f"{where}: the header is {found}, allowed is {','.join(_COLUMNS)}")
                continue
            if len(cells) != len(header):
                raise UserError(f"{where}: has {len(cells)} values, needed are {len(header)}: {','.join(header)}")
            row = dict(zip(header, cells, strict=True))
            rows.append(Row(_name(row["channel"], where), row["time"], row["value"], where))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: is not valid CSV ({error}); correct it") from None
    return rows, {}


def _yaml(text: str, path: Path) -> tuple[list[Row], dict[str, Setting]]:
    try:
        # Nodes, unlike values, know their lines, and leave it to us what is a number: to YAML 1.1, 1:30 is 90.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{path}: has too many lists within each other; a channel is {_CHANNEL}") from None
    if root is None:
        return [], {}
    if isinstance(root, yaml.SequenceNode):
        return [_entry(node, path) for node in root.value], {}
    rows: list[Row] = []
    settings: dict[str, Setting] = {}
    for name, (node, where) in _mapping(root, path, "a script is `channel: {time: value, ...}` lines").items():
        if name in SETTINGS:
            settings[name] = Setting(_scalar(node, path, name), where)
        elif isinstance(node, yaml.ScalarNode):
            raise UserError(
                f"{where}: {name} is neither a channel, {_CHANNEL}, nor a setting; {nearest(name, SETTINGS)}"
            )
        else:
            rows += _channel(name, node, path)
    return rows, settings


def _entry(node: yaml.Node, path: Path) -> Row:
    """Of {time: ..., channel: ..., value: ...}."""
    entries = _mapping(node, path, "a key in a list is {time: ..., channel: ..., value: ...}")
    where = _where(node, path)
    check_keys(entries, _COLUMNS, where)
    for name in _COLUMNS:
        if name not in entries:
            raise UserError(f"{where}: {name} is missing; a key has {', '.join(_COLUMNS)}")
    time, channel, value = (_scalar(entries[name][0], path, name) for name in _COLUMNS)
    return Row(_name(channel, where), time, value, where)


def _channel(name: str, node: yaml.Node, path: Path) -> Iterator[Row]:
    """Of {time: value, ...} or [[time, value], ...]."""
    for pair in node.value:
        if isinstance(node, yaml.SequenceNode):
            if not isinstance(pair, yaml.SequenceNode) or len(pair.value) != 2:
                raise UserError(f"{_where(pair, path)}: {name} has a key that is no pair; a channel is {_CHANNEL}")
            pair = pair.value
        time, value = pair
        yield Row(name, _scalar(time, path, "time"), _scalar(value, path, "value"), _where(time, path))


def _mapping(node: yaml.Node, path: Path, needed: str) -> dict[str, tuple[yaml.Node, str]]:
    """(value, file and line) of each name."""
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{_where(node, path)}: {needed}")
    entries: dict[str, tuple[yaml.Node, str]] = {}
    for key, value in node.value:
        where = _where(key, path)
        name = _name(_scalar(key, path, "a name"), where)
        if name in entries:
            raise UserError(f"{where}: {name} is given twice; put together what belongs to it")
        entries[name] = (value, where)
    return entries


def _scalar(node: yaml.Node, path: Path, what: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(f"{_where(node, path)}: {what} must be a single word or number, found a list or mapping")
    return node.value


def _name(text: str, where: str) -> str:
    if not text.isidentifier():
        raise UserError(f"{where}: {reprlib.repr(text)} is no name; names are like yaw or jawOpen")
    return text


def _where(node: yaml.Node, path: Path) -> str:
    return f"{path}, line {node.start_mark.line + 1}"
