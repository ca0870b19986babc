"""Reading the JSON of diffusers and transformers strictly: what cannot be honoured is refused, by its key."""

from collections.abc import Mapping
from typing import Any

from svp_jax.errors import UserError


def read_keys(
    name: str,
    json: Mapping[str, Any],
    defaults: Mapping[str, Any],
    only: Mapping[str, tuple],
    unused: frozenset[str] | None,
) -> dict[str, Any]:
    """Values of the keys in `defaults`, each from `json` or else the documented default of its class.

    Args:
        name: the class that the JSON describes, for messages.
        json: parsed config.json; keys that start with "_" are bookkeeping.
        defaults: the keys that are honoured, with the class's own defaults (lists are given as tuples).
        only: keys for which one behaviour is implemented, with the values that mean it; absent means it too.
        unused: keys that have no effect on the network's output; None: every other key has none.

    Raises:
        UserError: a key in `only` with another value, or an unknown key with a value that is not null.
    """
    for key, allowed in only.items():
        value = _frozen(json.get(key, allowed[0]))
        if not any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in allowed):
            choices = " or ".join(repr(choice) for choice in allowed)
            raise UserError(f"{name} config: {key} is {json[key]!r}, only {choices} is supported")
    if unused is not None:
        known = defaults.keys() | only.keys() | unused
        for key, value in json.items():
            if key not in known and not key.startswith("_") and value is not None:
                raise UserError(f"{name} config: unknown key {key} = {value!r}; this program cannot honour it")
    return {key: _frozen(json.get(key, default)) for key, default in defaults.items()}


def positive_int(name: str, key: str, value: Any) -> int:
    """`value` if it is an int of at least 1, else UserError naming the key."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} config: {key} is {value!r}, a whole number of at least 1 is needed")
    return value


def positive_float(name: str, key: str, value: Any) -> float:
    """`value` as a float if it is a number above 0, else UserError naming the key."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{name} config: {key} is {value!r}, a number above 0 is needed")
    return float(value)


def positive_ints(name: str, key: str, value: Any, length: int | None = None) -> tuple[int, ...]:
    """A tuple of ints of at least 1; a single int is repeated where `length` is given."""
    if length is not None and not isinstance(value, tuple):
        value = (value,) * length
    if not isinstance(value, tuple) or not value or length not in (None, len(value)):
        count = "a list" if length is None else f"a list of {length}"
        raise UserError(f"{name} config: {key} is {value!r}, {count} of whole numbers is needed")
    return tuple(positive_int(name, key, item) for item in value)


def block_types(name: str, key: str, value: Any, allowed: tuple[str, ...], length: int) -> tuple[str, ...]:
    """A tuple of `length` block type names out of `allowed`, else UserError naming the key."""
    if not isinstance(value, tuple) or len(value) != length or not all(item in allowed for item in value):
        raise UserError(f"{name} config: {key} is {value!r}, a list of {length} out of {', '.join(allowed)} is needed")
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
