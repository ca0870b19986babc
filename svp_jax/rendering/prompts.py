"""The text of Stage II over the frames of a render."""

import csv
import math
from dataclasses import dataclass

import numpy as np

from svp_jax.errors import UserError
from svp_jax.rendering.options import RenderOptions
from svp_jax.weights.base import Base, encode_prompts

COLUMNS = ["seconds", "prompt"]


@dataclass(frozen=True)
class Text:
    """Prompts at moments of the video.

    Attributes:
        times: seconds from the video's first frame, ascending.
        prompts: as many.
    """

    times: list[float]
    prompts: list[str]


def read_text(options: RenderOptions, own: str) -> Text:
    """What `options` say, else the avatar's `own` prompt.

    Raises:
        UserError: a timeline that cannot be read, or whose times are no numbers or out of order; it names the line.
    """
    if options.prompt_timeline is None:
        return Text([0.0], [own if options.prompt is None else options.prompt])
    path = options.prompt_timeline
    try:
        # Excel puts a mark before the first letter.
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
    except OSError as error:
        raise UserError(f"--prompt-timeline {path}: cannot read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--prompt-timeline {path}: not a .csv in UTF-8 ({error})") from None
    if not rows or rows[0] != COLUMNS:
        raise UserError(f"--prompt-timeline {path}: the first line must be {','.join(COLUMNS)}")
    times = []
    lines = [(number, row) for number, row in enumerate(rows, start=1) if row][1:]
    for number, row in lines:
        where = f"--prompt-timeline {path}, line {number}"
        if len(row) != len(COLUMNS):
            raise UserError(f"{where}: has {len(row)} fields, expected seconds,prompt (a prompt with commas in quotes)")
        times.append(_seconds(row[0], where))
        if times[-1] <= max(times[:-1], default=-1.0):
            raise UserError(f"{where}: {row[0]} does not come after {times[-2]:g}; put the lines in order of time")
    if not times:
        raise UserError(f"--prompt-timeline {path}: holds no prompt; write lines such as 0,a person")
    return Text(times, [prompt for _, (_, prompt) in lines])


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{where}: {text!r} is no time; allowed are seconds, 0 or more")
    return value


@dataclass(frozen=True)
class Timeline:
    """Text features at K moments, each going over into the next.

    Attributes:
        times: float64 [K], seconds from the video's first frame, ascending.
        features: float32 [K, T, D] of the texts.
    """

    times: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, base: Base, text: Text) -> "Timeline":
        """UserError where a prompt is too long."""
        return cls(np.array(text.times), np.asarray(encode_prompts(base, text.prompts)))

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """Features float32 [n, T, D] at `seconds` [n]: between two moments in proportion, outside the nearest ones."""
        places = np.interp(seconds, self.times, np.arange(len(self.times)))
        before = np.floor(places).astype(int)
        after = np.minimum(before + 1, len(self.times) - 1)
        share = (places - before).astype(np.float32)[:, None, None]
        return (1 - share) * self.features[before] + share * self.features[after]
