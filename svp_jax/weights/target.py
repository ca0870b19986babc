"""Where conversions write: a new folder or a new file, that is finished or not there."""

import contextlib
import difflib
import shutil
from collections.abc import Iterator
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.manifest import partial_folder
from svp_jax.weights.single_file import SUFFIXES

SINGLE_FILE = ".safetensors"


def check_target(target: Path) -> None:
    """UserError where `target` is there already, or its name is neither that of a folder nor of a single file."""
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} exists; choose another target, or remove it")
    if target.suffix == SINGLE_FILE:
        return
    if target.suffix in SUFFIXES:
        raise UserError(f"{target}: pickles are read and not written; end the name in {SINGLE_FILE}")
    if difflib.get_close_matches(target.suffix, [SINGLE_FILE]):
        raise UserError(f"{target}: the name of a single file ends in {SINGLE_FILE}, a folder's in nothing like it")


@contextlib.contextmanager
def made_parents(target: Path) -> Iterator[None]:
    """Makes the folders above `target`; with an error those that it made disappear again.

    Raises:
        UserError: they cannot be made.
    """
    missing = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target}: cannot write there ({error.strerror}); choose another target") from None
    try:
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that becomes `target` at the end, and disappears with an error.

    Raises:
        UserError: it cannot be made, or one is in the way.
    """
    partial = partial_folder(target)
    if partial.exists():
        raise UserError(f"{partial} is in the way, of a conversion that was interrupted; remove it")
    with made_parents(target):
        try:
            partial.mkdir()
        except OSError as error:
            raise UserError(f"{target}: cannot write there ({error.strerror}); choose another target") from None
        try:
            yield partial
            partial.replace(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
