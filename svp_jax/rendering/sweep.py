"""Several videos of one avatar in one run: drivers, and values of a setting that are tried one beside the other.

out/
  NAME/          a render for each video
  sheet.png      a labelled row for each video, frames spread in time
  grid.mp4       all videos beside each other, with their labels; of one driver
  sweep.json     which videos there are, what they were made of, hashes of the overviews
"""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.images import caption, read_pngs, write_png
from svp_jax.capture.sheet import contact_sheet
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.errors import UserError
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.writer import CAPTION_HEIGHT, COMMENT

# Settings that may differ between videos which go through the networks together.
SWEPT = ("strength", "prompt")
COLUMNS = 6


def variants(options: RenderOptions) -> dict[str, RenderOptions]:
    """The videos that `--sweep` asks for by a name that is a folder's, or the one "" without it.

    Raises:
        UserError: another setting, or values that cannot be read.
    """
    if options.sweep is None:
        return {"": options}
    name, _, text = options.sweep.partition("=")
    if name not in SWEPT or not text:
        raise UserError(
            f"--sweep {options.sweep}: allowed are strength=FROM:TO:COUNT, strength=A|B|... and prompt=TEXT|TEXT|..."
        )
    single = replace(options, sweep=None)
    if name == "prompt":
        prompts = [prompt.strip() for prompt in text.split("|")]
        return {f"prompt_{number}": replace(single, prompt=prompt) for number, prompt in enumerate(prompts, start=1)}
    values = numbers(f"--sweep {options.sweep}", text)
    named = {f"strength_{value:g}": replace(single, strength=value) for value in values}
    if len(named) < len(values):
        raise UserError(f"--sweep {options.sweep}: values are alike to six digits; give each once")
    return named


def numbers(argument: str, text: str) -> list[float]:
    """Numbers of `FROM:TO:COUNT`, evenly apart and rounded to six digits, or of `A|B|...`.

    Args:
        argument: what `text` is a part of, for the UserError's message.
    """
    try:
        if ":" not in text:
            return [float(value) for value in text.split("|")]
        first, last, count = text.split(":")
        if int(count) < 2:
            raise ValueError
        if not math.isfinite(float(first) + float(last)):
            raise ValueError
        return [float(f"{value:.6g}") for value in np.linspace(float(first), float(last), int(count))]
    except ValueError:
        raise UserError(
            f"{argument}: no values; allowed are FROM:TO:COUNT with 2 or more, such as 0.2:1.4:7, or A|B|..."
        ) from None


def write_sheet(folder: Path, renders: dict[str, tuple[str, range]]) -> None:
    """sheet.png of finished renders below `folder`: of each name, what stands beside it and the driver's frames."""
    columns = np.linspace(0, 1, COLUMNS)
    rows = {}
    for name, (label, shown) in renders.items():
        chosen = [shown[round(place * (len(shown) - 1))] for place in columns]
        rows[label] = list(read_pngs(folder / name / "frames", chosen))
    write_png(folder / "sheet.png", contact_sheet(rows, [f"{place:.0%}" for place in columns]), comment=COMMENT)


def write_grid(folder: Path, labels: dict[str, str], frames: range, rate: Fraction) -> None:
    """grid.mp4 of finished renders of one driver below `folder`.

    Args:
        labels: of each render's name, what stands above it.
        frames: the driver's frames that all of them show. rate: of them, a second.
    """
    across = math.ceil(math.sqrt(len(labels)))
    down = math.ceil(len(labels) / across)
    size = read_pngs(folder / next(iter(labels)) / "frames", [frames[0]]).shape[1]
    height, width = down * (size + CAPTION_HEIGHT), across * size
    captions = [caption(label, size, CAPTION_HEIGHT) for label in labels.values()]
    with VideoWriter(folder / "grid.mp4", rate, width, height, metadata={"comment": COMMENT}) as video:
        for frame in frames:
            picture = np.zeros((height, width, 3), np.uint8)
            for number, name in enumerate(labels):
                row, column = number // across * (size + CAPTION_HEIGHT), number % across * size
                (shown,) = read_pngs(folder / name / "frames", [frame])
                picture[row : row + size + CAPTION_HEIGHT, column : column + size] = [*captions[number], *shown]
            video.write(picture)
