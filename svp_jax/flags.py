"""The command line as tyro reads it: a command's arguments, an options class as flags, errors of one line."""

import contextlib
import dataclasses
import functools
import inspect
import io
import os
import re
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import docstring_parser
import tyro

from svp_jax.errors import UserError

_METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def flags_of(options: type) -> type:
    """The same dataclass for tyro: a field's docstring is one paragraph, and None is not shown among its values.

    Args:
        options: a frozen dataclass whose fields have docstrings and defaults.
    """
    texts = {each.arg_name: each.description for each in docstring_parser.parse_from_object(options).params}
    fields = []
    for field in dataclasses.fields(options):
        look = {"help": " ".join(texts[field.name].split())}
        if isinstance(field.type, types.UnionType):
            look["metavar"] = _metavar(next(kind for kind in get_args(field.type) if kind is not types.NoneType))
        if field.default in (None, ""):
            look["help_behavior_hint"] = "(optional)"
        flag = Annotated[field.type, tyro.conf.arg(**look)]
        fields.append((field.name, flag, dataclasses.field(default=field.default)))
    return dataclasses.make_dataclass(options.__name__, fields, bases=(options,), frozen=True)


def _metavar(kind) -> str:
    return "|".join(get_args(kind)) if get_origin(kind) is Literal else _METAVARS[kind]


def parsed(command: Callable[..., None], program: str, arguments: Sequence[str]) -> Callable[[], None]:
    """`command` with its arguments, not yet called; --help prints and exits here.

    Raises:
        UserError: the arguments do not fit it.
    """

    # tyro calls what it has parsed for: this binds the arguments, so that what goes wrong in here is all tyro's.
    def bind(*args, **kwargs) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    bind.__signature__, bind.__annotations__ = inspect.signature(command), command.__annotations__
    # Each argument's text as one paragraph: tyro breaks lines where the source does.
    bind.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(command.__doc__))
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _wide_terminal(arguments):
            return tyro.cli(bind, prog=program, args=arguments)
    except SystemExit as stop:
        if stop.code:
            raise UserError(f"{_plain(errors.getvalue())}; see `{program} --help`") from None
        raise


@contextlib.contextmanager
def _wide_terminal(arguments: Sequence[str]) -> Iterator[None]:
    """As if the terminal were wide, so that tyro breaks no line of a message; but for the help, which is to be read."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        yield
        return
    own = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if own is not None:
            os.environ["COLUMNS"] = own


def _plain(box: str) -> str:
    """tyro's framed message as one line, without its title, the help of flags and its pointer to the help."""
    text, before = "", ""
    for line in box.splitlines()[1:]:
        # The frame is of spaces and minus signs where the terminal knows no others; "--out" is no frame.
        line = re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]|-{10,}", " ", line)[2:].rstrip()
        if re.match("For full helptext|Argument helptext|Got errors", line):
            break
        if re.match("Perhaps you meant:|Arguments similar to .*:", line):
            text += "; perhaps you meant"
        # Flags are indented by four, their help by eight.
        elif line and not line.startswith(" " * 8):
            flag = line.startswith("    ")
            text += (", " if before.startswith("    ") else " ") if flag else "; " * bool(text)
            text += line.strip()
        else:
            continue
        before = line
    text = re.sub(r"\('.*'\)", _choices, text.replace("{None}|", "").strip())
    return re.sub(r"(?<=[\w)\]'])\.$", "", text)


def _choices(found: re.Match) -> str:
    """Choices in one order, and without the one that stands for a flag that is not given."""
    return ", ".join(sorted(set(re.findall(r"'([^']*)'", found[0])) - {"None"}))
