"""`svp assets`: what of the registry is there, and fetching the rest: resumed, verified, or out of a local mirror."""

import contextlib
import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from svp_jax.errors import UserError, nearest
from svp_jax.manifest import sha256_file
from svp_jax.model_files import ModelFile, look_up_model, model_folders, registry

TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20


def listing() -> list[str]:
    """One line a file: whether it is there, its size, licence, use, and where it is from; hashes are compared."""
    lines = []
    for entry in registry().values():
        lines.append(f"{_state(entry):<10} {entry.file:<40} {_size(entry.bytes):>9}  {_licence(entry)}")
        lines.append(f"{'':<10} {entry.use}; {entry.url}")
        if entry.sha256:
            lines.append(f"{'':<10} sha256 {entry.sha256}")
    return lines


def _state(entry: ModelFile) -> str:
    if entry.sha256 is None:
        return "link"
    there = look_up_model(entry.file)
    if there is None:
        return "absent"
    return "present" if sha256_file(there) == entry.sha256 else "DIFFERENT"


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _licence(entry: ModelFile) -> str:
    return entry.licence if entry.commercial else f"{entry.licence}, NOT FOR COMMERCIAL USE"


def fetch(names: Sequence[str], mirror: Path | None, non_commercial: bool) -> list[Path]:
    """Fetches files of the registry into the first folder of model files; returns where they are.

    A file that is there and has the right hash is left alone. A download that was cut off goes on where it stopped.

    Args:
        names: paths of the registry, or a folder of it for all that lie there.
        mirror: a local folder with the same paths, which is read instead of the network.
        non_commercial: fetch files whose licence forbids commercial use too.

    Raises:
        UserError: an unknown name, a licence that was not accepted, no connection, or a file with another hash.
    """
    entries = [entry for name in names for entry in _named(name)]
    for entry in entries:
        if entry.sha256 is None:
            raise UserError(f"--fetch {entry.file}: it is a page to look at, {entry.url}")
        if not entry.commercial and not non_commercial:
            raise UserError(
                f"--fetch {entry.file}: its licence, {entry.licence}, forbids commercial use; "
                "if that suits you, add --accept-non-commercial"
            )
    return [_fetch(entry, mirror) for entry in entries]


def _named(name: str) -> list[ModelFile]:
    known = registry()
    found = [entry for path, entry in known.items() if path == name or path.startswith(f"{name}/")]
    if not found:
        raise UserError(f"--fetch {name}: no such file in the registry; {nearest(name, known)}")
    return found


def _fetch(entry: ModelFile, mirror: Path | None) -> Path:
    there = look_up_model(entry.file)
    if there is not None and sha256_file(there) == entry.sha256:
        return there
    target = model_folders()[0] / entry.file
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} is there and is another file than the registry's; remove it to fetch that")
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if mirror is not None:
            source = Path(mirror) / entry.file
            if not source.is_file():
                raise UserError(f"--mirror {mirror}: it has no {entry.file}")
            shutil.copyfile(source, part)
        else:
            _download(entry, part)
    except OSError as error:
        raise UserError(f"{part}: cannot write it ({error.strerror or error}); free space or set SVP_MODELS") from None
    digest = sha256_file(part)
    if digest != entry.sha256:
        part.unlink()
        raise UserError(
            f"{entry.file} from {mirror or entry.url} has sha256 {digest[:12]}, {entry.sha256[:12]} is expected; "
            "nothing was kept"
        )
    part.replace(target)
    return target


def _download(entry: ModelFile, part: Path) -> None:
    """Downloads into `part`, from its end on where it holds a beginning."""
    start = part.stat().st_size if part.exists() else 0
    if start == entry.bytes:
        return
    if start > entry.bytes:
        start = 0
    address = urllib.parse.quote(entry.url, safe=":/?&=%()")
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with contextlib.closing(urllib.request.urlopen(request, timeout=TIMEOUT)) as answer:
            # A server that knows no ranges sends all of it again.
            goes_on = answer.status == 206
            if not goes_on and int(answer.headers.get("Content-Length", entry.bytes)) != entry.bytes:
                raise UserError(f"{entry.file}: {entry.url} sends another file than the registry's")
            with open(part, "ab" if goes_on else "wb") as file:
                _copy(answer, file, entry, start if goes_on else 0)
    except urllib.error.URLError as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{entry.file}: cannot fetch {entry.url} ({reason}); try again, or use --mirror with a folder that has it"
        ) from None
    except (TimeoutError, ConnectionError, http.client.IncompleteRead):
        pass  # As where the server stops early: what has come is kept.
    except http.client.HTTPException as error:
        raise UserError(f"{entry.file}: {entry.url} does not answer as a web server does ({error!r})") from None
    if part.stat().st_size < entry.bytes:
        raise UserError(
            f"{entry.file}: the connection broke off after {part.stat().st_size} of {entry.bytes} bytes; the same "
            "command goes on"
        )


def _copy(answer: BinaryIO, file: BinaryIO, entry: ModelFile, start: int) -> None:
    with tqdm(total=entry.bytes, initial=start, unit="B", unit_scale=True, desc=entry.file) as bar:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
