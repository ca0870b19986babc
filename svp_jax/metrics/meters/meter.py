"""What a meter is: it looks at all videos frame by frame, and has scores for each of them at the end."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

Regions = dict[str, dict[str, np.ndarray]]
"""region -> metric -> float64 [N], NaN where a metric is not defined for a frame."""


class Moment(NamedTuple):
    """What all videos show at one time.

    Attributes:
        number: of the scored frame.
        reference: uint8 [H, W, 3]. images: the same of each row.
        masks: region -> bool [H, W], the pixels that count; None: all.
    """

    number: int
    reference: np.ndarray
    images: list[np.ndarray]
    masks: dict[str, np.ndarray | None]


class Meter(Protocol):
    """Measures rows of pictures beside a reference; two moments are held at a time.

    Attributes:
        networks: that it looks through, name -> file -> SHA-256 of the weights.
    """

    networks: dict[str, dict[str, str]]

    def measure(self, now: Moment, before: Moment | None) -> None:
        """Takes the next moment; `before` is the one right before it in the same shot, None where there is none."""
        ...

    def per_frame(self) -> list[Regions]:
        """Of each row."""
        ...

    def totals(self) -> list[dict[str, float]]:
        """Of each row the numbers that belong to the whole video."""
        ...


class FrameMeter:
    """What meters that have scores per frame share: these, NaN until they are set; no totals but what a meter adds.

    Args:
        count: frames. rows: of pictures.
    """

    def __init__(self, count: int, rows: int, regions: Sequence[str], metrics: Sequence[str]):
        self.networks: dict[str, dict[str, str]] = {}
        self._rows = [
            {region: {metric: np.full(count, np.nan) for metric in metrics} for region in regions} for _ in range(rows)
        ]

    def put(self, row: int, region: str, number: int, **values: float) -> None:
        """Sets scores of a frame, by the metrics' names."""
        for metric, value in values.items():
            self._rows[row][region][metric][number] = value

    def per_frame(self) -> list[Regions]:
        """As of `Meter`."""
        return self._rows

    def totals(self) -> list[dict[str, float]]:
        """None."""
        return [{} for _ in self._rows]


def either(now: Moment, before: Moment, region: str) -> np.ndarray | None:
    """The pixels of a region at either of two moments."""
    return None if now.masks[region] is None else now.masks[region] | before.masks[region]
