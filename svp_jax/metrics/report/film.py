"""The page's film: reference, results and their differences side by side, as tiles of one small video.

One video, so that all that is shown together is of one frame and no two players can drift apart. Seeking to the
middle of a frame's time is exact in Chromium 156: of 200 frames in random order none was another, at any distance of
key frames; near ones make it quick. Pictures one by one, the other way, took 3 (WebP) to 6 times (JPEG) the bytes.
"""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from svp_jax.capture.video_writer import VideoWriter
from svp_jax.metrics.sources import Pictures

SIDE = 256  # pixels of a tile's longer side, at most
TILE_FRAMES = 6000  # tiles times frames, at most; about 2 kB each, and a third more as text in the page
AMPLIFICATION = 4  # of the absolute difference
SLOWEST = Fraction(5)  # frames a second
MAX_DENOMINATOR = 10000  # of the rate: containers count in whole ticks
KEY_FRAME_EVERY = 12
CRF = 23
REFERENCE = "reference"


@dataclass(frozen=True)
class Film:
    """An mp4 and what lies where in it.

    Attributes:
        path: of the file.
        frame_rate: frames a second; frame k is shown from k / frame_rate on.
        numbers: the scored frame that each of its frames shows, rising.
        height, width: of a tile.
        tiles: row -> what it shows ("picture", "difference") -> the tile's upper left corner (x, y).
    """

    path: Path
    frame_rate: Fraction
    numbers: np.ndarray
    height: int
    width: int
    tiles: dict[str, dict[str, tuple[int, int]]]


def choose_frames(count: int, tiles: int, wanted: list[int]) -> np.ndarray:
    """Which of `count` scored frames a film of `tiles` tiles shows, rising: all, or evenly chosen ones and `wanted`.

    Args:
        wanted: frames to be among them, the most important first; no more than half of the film.
    """
    budget = max(TILE_FRAMES // tiles, 2)
    if count <= budget:
        return np.arange(count)
    wanted = list(dict.fromkeys(wanted))[: budget // 2]
    even = np.linspace(0, count - 1, budget - len(wanted)).round().astype(int)
    return np.union1d(even, np.array(wanted, int))


def make_film(pictures: dict[str, Pictures], count: int, frame_rate: Fraction, wanted: list[int], path: Path) -> Film:
    """Makes the film of `count` scored frames; pictures are read once, frame by frame.

    Where only some frames are shown, it plays as fast as all of them would, but not below `SLOWEST`.

    Args:
        pictures: row -> its pictures uint8 [H, W, 3], all of one size, "reference" among them.
        frame_rate: of the reference, frames a second.
        wanted: as of `choose_frames`.
        path: of the file.

    Raises:
        UserError: it cannot be written.
    """
    names = [REFERENCE, *(name for name in pictures if name != REFERENCE)]
    places = [(name, "picture") for name in names] + [(name, "difference") for name in names[1:]]
    numbers = choose_frames(count, len(places), wanted)
    rate = max(frame_rate * Fraction(len(numbers), count), min(SLOWEST, frame_rate)).limit_denominator(MAX_DENOMINATOR)
    frames = zip(*(pictures[name](numbers) for name in names), strict=True)
    first = next(frames)
    height, width = _tile_size(*first[0].shape[:2])
    columns = math.ceil(math.sqrt(len(places)))
    corners = [(number % columns * width, number // columns * height) for number in range(len(places))]
    board = np.zeros((math.ceil(len(places) / columns) * height, columns * width, 3), np.uint8)
    options = {"crf": CRF, "key_frame_every": KEY_FRAME_EVERY}
    with VideoWriter(path, rate, board.shape[1], board.shape[0], **options) as writer:
        for images in itertools.chain([first], frames):
            _lay(board, corners, images, height, width)
            writer.write(board)
    tiles: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in names}
    for (name, kind), corner in zip(places, corners, strict=True):
        tiles[name][kind] = corner
    return Film(path, rate, numbers, height, width, tiles)


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """Of a tile that shows height x width pixels: even, as the film's colours are halved, and at most `SIDE`."""
    scale = min(1.0, SIDE / max(height, width))
    return tuple(max(2, 2 * round(scale * side / 2)) for side in (height, width))


def _lay(board: np.ndarray, corners: list, images: tuple[np.ndarray, ...], height: int, width: int) -> None:
    """Lays the pictures of one frame, then their differences from the first of them, into `board`."""
    differences = [_amplified(cv2.absdiff(images[0], image), height, width) for image in images[1:]]
    tiles = [*(_fit(image, height, width) for image in images), *differences]
    for (x, y), tile in zip(corners, tiles, strict=True):
        board[y : y + height, x : x + width] = tile


def _fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return (
        image
        if image.shape[:2] == (height, width)
        else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    )


def _amplified(difference: np.ndarray, height: int, width: int) -> np.ndarray:
    # Amplified after it was made smaller, in float: what is cut off at white does not depend on the tile's size.
    small = _fit(difference.astype(np.float32), height, width)
    return np.minimum(AMPLIFICATION * small, 255).round().astype(np.uint8)
