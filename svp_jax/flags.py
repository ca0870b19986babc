"""The command line as tyro reads it: a command's arguments, an options class as flags, errors of one line."""

import contextlib
import dataclasses
import functools
import inspect
import io
import re
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import docstring_parser
import tyro

from svp_jax.errors import UserError

_METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def flags_of(options: type) -> type:
    """The same dataclass for tyro: a field's docstring is one paragraph, and None is no value that can be typed.

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
        with contextlib.redirect_stderr(errors):
            return tyro.cli(bind, prog=program, args=arguments)
    except SystemExit as stop:
        if stop.code:
            raise UserError(f"{_plain(errors.getvalue())}; see `{program} --help`") from None
        raise


def _plain(box: str) -> str:
    """tyro's framed message as one line, without its title and its pointer to the help."""
    # The frame is of spaces and minus signs where the terminal knows no others; "--out" is no frame.
    lines = [re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]|-{10,}", " ", line)[1:].rstrip() for line in box.splitlines()[1:]]
    # Flags that are meant or missing are indented, their help still more.
    lines = [line for line in lines if line and not line.startswith(" " * 9)]
    text = ""
    for before, line in zip(["", *lines], lines, strict=False):
        flags = line.startswith("     ") and before.startswith("     ")
        text += (", " if flags else " ") + line.strip()
    text = re.split(r"\s*(?:For full helptext|Argument helptext|Got errors)", text)[0].strip().rstrip(". ")
    return text.replace("{None}|", "").replace(" Perhaps you meant:", "; perhaps you meant")
