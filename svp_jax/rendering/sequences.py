"""What is rendered side by side: tracks of frames, and sequences that show a track in their own way."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from svp_jax.rendering.driver import Driver
from svp_jax.rendering.prompts import Timeline


@dataclass(frozen=True)
class Track:
    """Frames of a driver that go through the networks one after the other.

    Attributes:
        indices: int [n], the driver's frame numbers, ascending.
        starts: bool [n], True where no frame before is looked at.
        first: how many frames of the whole render come before these.
        warm_up: how many of the first frames are there for those behind alone; another track shows them.
        shown_from: the frame with which the video begins.
    """

    driver: Driver
    indices: np.ndarray
    starts: np.ndarray
    first: int = 0
    warm_up: int = 0
    shown_from: int = 0


@dataclass(frozen=True)
class Sequence:
    """What Stage II makes of a track.

    Attributes:
        track: number of the track.
        strength: factor of the control.
    """

    track: int
    timeline: Timeline
    strength: float


def chunk_length(tracks: list[Track], limit: int, batch: int) -> int:
    """The smallest length that needs no more chunks than `limit` does, in whole batches: least padding.

    Args:
        batch: frames that are computed together.
    """
    longest = max(len(track.indices) for track in tracks)
    length = -(-longest // -(-longest // limit))
    return min(-(-length // batch) * batch, max(limit, length))


def chunks(tracks: list[Track], length: int, first: int = 0) -> Iterator[list[slice]]:
    """Of each track the next `length` frames from `first` on, as slices of `indices`; empty behind its end."""
    for start in range(first, max(len(track.indices) for track in tracks), length):
        yield [slice(min(start, n), min(start + length, n)) for n in (len(track.indices) for track in tracks)]
