"""Arrays of files, checked against the kinds and shapes that they should have."""

from pathlib import Path

import numpy as np

from svp_jax.errors import UserError

_KINDS = {"f": "floating point numbers", "iu": "integers", "U": "texts", "b": "truth values"}
# Kind of the numbers and shape; a letter stands for one size, which all arrays share.
Layout = dict[str, tuple[str, tuple[int | str, ...]]]


def checked_array(
    array: object, name: str, layout: Layout, sizes: dict[str, int], path: Path, again: str
) -> np.ndarray:
    """`array` where it is what `layout` has under `name`.

    Args:
        array: what `pickles.load_npz` read: Python objects come as what they stand for, which need not be an array.
        sizes: of the letters met so far, to which its own are added.
        again: how messages end: what to do.

    Raises:
        UserError: another kind, or another shape.
    """
    kinds, shape = layout[name]
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in kinds:
        kind = array.dtype if isinstance(array, np.ndarray | np.generic) else "Python objects"
        raise UserError(f"{path}: {name} holds {kind}, expected {_KINDS[kinds]}; {again}")
    wanted = [sizes.get(size, "n") if isinstance(size, str) else size for size in shape]
    if array.ndim != len(shape) or any(want not in ("n", got) for want, got in zip(wanted, array.shape, strict=True)):
        raise UserError(
            f"{path}: {name} has the shape {list(array.shape)}, expected [{', '.join(map(str, wanted))}]; {again}"
        )
    sizes |= {letter: got for letter, got in zip(shape, array.shape, strict=True) if isinstance(letter, str)}
    return array
