"""The manifest that every finished folder carries, and the rule that a folder is finished or not there.

A capture, an avatar, a render, a sweep and a report each hold one JSON file (`capture.json`, `avatar.json`,
`render.json`, `sweep.json`, `metrics.json`) with `kind`, `schema_version`, what made it, and a checksum over its own
content.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from svp_jax.errors import UserError

# Of each kind. Avatars of version 1 name one capture, others a list of them.
SCHEMA_VERSIONS = {"demo": 1, "capture": 1, "avatar": 2, "render": 1, "sweep": 1, "report": 1}
FILE_NAMES = {
    "demo": "demo.json",
    "capture": "capture.json",
    "avatar": "avatar.json",
    "render": "render.json",
    "sweep": "sweep.json",
    "report": "metrics.json",
}
CHECKSUM = "manifest_sha256"
# In the partial folder of a training run or a render: what it was started with. How far a render has come.
RUN = "run.json"
PROGRESS = "progress.npz"
# In captures and avatars: the fitted face model (capture/face_track.py).
FACE = "face.npz"
# In every partial folder: its text is the kind of the result; locked by the run that writes there.
UNFINISHED = "unfinished"
# What an unfinished demo has done so far. It grows where it will stay, since its manifests name each other's folders.
DEMO_PROGRESS = "progress.json"


def write_manifest(folder: Path, kind: str, body: dict) -> None:
    """Writes the manifest of `kind` into `folder`, beside and then renamed, with its own checksum."""
    manifest = {"kind": kind, "schema_version": SCHEMA_VERSIONS[kind], **body}
    manifest[CHECKSUM] = checksum(manifest)
    write_json(Path(folder) / FILE_NAMES[kind], manifest)


def read_manifest(folder: Path, kind: str) -> dict:
    """The manifest of `kind` in `folder`, checked.

    Raises:
        UserError: no such folder or file, not JSON, another kind or version, or edited by hand (checksum).
    """
    path = Path(folder) / FILE_NAMES[kind]
    if not path.is_file():
        if not Path(folder).exists() and not partial_folder(folder).exists():
            raise UserError(
                f"{folder}: no such folder; give the folder of {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
            )
        unfinished = partial_folder(folder)
        hint = f"; {unfinished} is unfinished: run the command that makes it again" if unfinished.is_dir() else ""
        raise UserError(f"{folder} is not a finished {kind}: it has no {path.name}{hint}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); make the {kind} again") from None
    if manifest.get("kind") != kind:
        raise UserError(f"{path} says kind {manifest.get('kind')!r}, expected {kind!r}")
    version, expected = manifest.get("schema_version"), SCHEMA_VERSIONS[kind]
    if version != expected:
        raise UserError(f"{path} has schema_version {version!r}, this program reads {expected}; make the {kind} again")
    if manifest.get(CHECKSUM) != checksum(manifest):
        raise UserError(f"{path} was edited: its content does not match its {CHECKSUM}; make the {kind} again")
    return manifest


def body_of(manifest: dict) -> dict:
    """What `write_manifest` was given to write this manifest."""
    return {key: value for key, value in manifest.items() if key not in ("kind", "schema_version", CHECKSUM)}


def checksum(manifest: dict) -> str:
    """SHA-256 over all of a manifest but the checksum in it."""
    content = {key: value for key, value in manifest.items() if key != CHECKSUM}
    # Through JSON once, so that it is sorted and hashed as it will be read back, with every key a text.
    content = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: dict) -> None:
    """Writes `content` beside `path` and renames it, so that a reader never sees half a file.

    Raises:
        UserError: it cannot be written, as on a full disk; nothing new is left.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """As `write_json`, of any text."""
    beside = Path(path).with_name(Path(path).name + ".tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot write ({error.strerror}); free space or choose another folder") from None


def read_json(path: Path) -> dict:
    """What `write_json` has written."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def parts(folder: Path) -> list[Path]:
    """What lies in the folder of a result, sorted, but for manifests and the files of an unfinished one."""
    apart = {*FILE_NAMES.values(), UNFINISHED, RUN, PROGRESS}
    return sorted(path for path in Path(folder).iterdir() if path.name not in apart)


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of one file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """SHA-256 over the sorted (relative path, file hash) pairs below `folder`."""
    total = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of what a folder holds (`sha256_folder`)."""
    return sha256_folder(path) if path.is_dir() else sha256_file(path)


def partial_folder(out: Path) -> Path:
    """Where a result lies until it is finished: `OUT.partial` beside `OUT`."""
    # "." and ".." have no name of their own to add to.
    out = Path(out) if Path(out).name not in ("", "..") else Path(out).resolve()
    return out.parent / (out.name + ".partial")


@contextlib.contextmanager
def staged_folder(out: Path, kind: str, force: bool, resume: bool = False) -> Iterator[Path]:
    """Gives `OUT.partial` to write into and renames it to `out` when the block ends without an error.

    Args:
        out: the finished folder.
        kind: of the result, a key of `FILE_NAMES`.
        force: an existing `out` is replaced at the end; otherwise it is an error at the start.
        resume: keep what an interrupted run left in `OUT.partial`, and keep it again on an error;
            otherwise start empty, and leave nothing behind on an error.

    Raises:
        UserError: `out` exists and `force` is false, the folder cannot be made, another run writes there, or
            `OUT.partial` is not what an interrupted run of the same kind left.
    """
    partial = check_output(out, kind, force)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_claimed(partial, kind))
            if not resume:
                empty_folder(partial)
        except OSError as error:
            raise UserError(f"--out {out}: cannot write there ({error.strerror}); choose another folder") from None
        try:
            yield partial
        except BaseException:
            if not resume:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        out, replaced = Path(out), partial.with_name(partial.name + ".replaced")
        # Two renames: at no time is there half a result.
        shutil.rmtree(replaced, ignore_errors=True)
        if out.exists():
            out.replace(replaced)
        partial.replace(out)
        (out / UNFINISHED).unlink()
        shutil.rmtree(replaced, ignore_errors=True)


@contextlib.contextmanager
def _claimed(partial: Path, kind: str) -> Iterator[None]:
    """Makes `partial` or takes over what an interrupted run left there; no other run can while the block lasts."""
    if partial.exists() and not (partial / UNFINISHED).is_file() and any(partial.iterdir()):
        raise UserError(f"{partial} is in the way, and no unfinished result; remove it or choose another --out")
    partial.mkdir(parents=True, exist_ok=True)
    with open(partial / UNFINISHED, "a+", encoding="utf-8") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{partial} is being written by another run; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            warnings.warn(f"{partial} cannot be locked ({error.strerror}): start no second run on it", stacklevel=4)
        mark.seek(0)
        if (earlier := mark.read()) not in ("", kind):
            raise UserError(f"{partial} is an unfinished {earlier}; finish or remove it first")
        if not earlier:
            mark.write(kind)
            mark.flush()
        yield


def empty_folder(partial: Path) -> None:
    """Removes all that an earlier run has left in a partial folder but its mark."""
    for path in partial.iterdir():
        if path.name != UNFINISHED:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_output(out: Path, kind: str, force: bool) -> Path:
    """The partial folder of `out`; UserError where `out` cannot become a new result of `kind`.

    It may be an empty folder, and with `force` a finished result of the same kind: anything else stays as it is.
    """
    out = Path(out)
    if out.is_symlink() or out.is_mount() or out.resolve() == Path.cwd():
        # They cannot be renamed onto, which would only show when all the work is done.
        raise UserError(f"--out {out} is a link, a mount point or the folder you are in; name a folder of its own")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not force:
            raise UserError(f"--out {out} exists; add --force to replace it, or choose another folder")
        if not out.is_dir():
            raise UserError(f"--out {out} is a file; a folder is written there, choose another name")
        if not _is_result(out, kind):
            raise UserError(f"--out {out} holds no {kind} of this program, so --force leaves it; choose another folder")
    return partial_folder(out)


def _is_result(folder: Path, kind: str) -> bool:
    """Whether `folder` has a manifest of `kind`, edited by hand or not."""
    try:
        manifest = json.loads((folder / FILE_NAMES[kind]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == kind
