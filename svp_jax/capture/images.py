"""PNG files in and out (the one place that knows OpenCV's blue-green-red order), sheets and captions."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from svp_jax.errors import UserError

# Bytes of a PNG's signature and first chunk, after which its metadata may stand.
HEADER = 33


def read_png(path: Path) -> np.ndarray:
    """The image uint8 [H, W, 3] RGB at `path`; UserError where it is missing or broken."""
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot read ({error.strerror}); make the folder again") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UserError(f"{path} is not a readable image; make the folder again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_png(path: Path, image: np.ndarray, comment: str = "") -> None:
    """Writes `image` uint8 [H, W, 3] RGB with an ASCII `comment` in its metadata; UserError where the disk refuses."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: got {image.dtype} {image.shape}, expected uint8 [H, W, 3]")
    # Fast compression: a capture has thousands of these and reading them back is the common case.
    blue_first = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".png", blue_first, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    if comment:
        chunk = b"tEXt" + b"Comment\0" + comment.encode("ascii")
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        encoded = encoded[:HEADER] + chunk + encoded[HEADER:]
    try:
        Path(path).write_bytes(encoded)
    except OSError as error:
        problem = error.strerror
        raise UserError(f"{path}: cannot write ({problem}); free space or choose another --out") from None


def write_sheet(path: Path, rows: Iterable[Iterable[np.ndarray]]) -> None:
    """Writes rows of pictures uint8 [H, W, 3], all of one size, as one picture."""
    write_png(path, np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


def read_pngs(folder: Path, indices) -> np.ndarray:
    """The images `000000.png`... of `folder` at `indices`, uint8 [n, H, W, 3] RGB."""
    return np.stack([read_png(Path(folder) / f"{int(index):06d}.png") for index in indices])


def labelled(image: np.ndarray, text: str) -> np.ndarray:
    """A copy of `image` uint8 [H, W, 3] with `text` in its lower left corner, readable on any ground."""
    image = image.copy()
    scale = image.shape[0] / 640
    place = (round(8 * scale) + 2, image.shape[0] - round(10 * scale) - 2)
    # Black below white: one of both can be seen.
    for ink, width in ((0, 3), (255, 1)):
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, max(0.3, scale), (ink,) * 3, width, cv2.LINE_AA)
    return image


def caption(text: str, width: int, height: int, paper: int = 0, ink: int = 255) -> np.ndarray:
    """`text` at the left of a plain field uint8 [height, width, 3], halfway down, made to fit.

    Args:
        paper, ink: grey levels of field and letters.
    """
    font, margin = cv2.FONT_HERSHEY_SIMPLEX, 4
    natural = cv2.getTextSize(text, font, 1.0, 1)[0][0]
    scale = min(0.5, (width - 2 * margin) / max(natural, 1))
    field = np.full((height, width, 3), paper, np.uint8)
    cv2.putText(field, text, (margin, height // 2 + 5), font, scale, (ink, ink, ink), 1, cv2.LINE_AA)
    return field
