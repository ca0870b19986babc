"""The frames of a render on their way: conditions and Stage I, conditions and Stage II, files; each in its thread."""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from svp_jax.capture.conditions import details_of, outlines_of
from svp_jax.errors import UserError
from svp_jax.face.labels import colorize, decode
from svp_jax.rendering.ahead import ahead
from svp_jax.rendering.progress import Progress
from svp_jax.rendering.sequences import Sequence, Track, chunks
from svp_jax.rendering.stage_sampler import Frames, StageSampler
from svp_jax.rendering.stages import Stages
from svp_jax.rendering.still import Still
from svp_jax.rendering.stopwatch import Stopwatch

# What of `Still` the next chunk needs to know.
STILL = ("count", "condition", "parsing")


class Writer(Protocol):
    """Takes what is made of one sequence, in order."""

    def write(self, frames: np.ndarray, parsing: np.ndarray, pictures: np.ndarray | None) -> None:
        """Of frames int [n]: maps and results uint8 [n, S, S, 3]; no results where only maps are made."""
        ...


@dataclass(frozen=True)
class _Chunk:
    """Frames on their way.

    Attributes:
        parts: of each track, the frames as a slice of its indices.
        parsing: of each track, its maps.
        pictures: of each sequence, its results.
        latents: of each stage, of each of its rows, those that were made for these frames [m, h, w, c].
        drawn: as in `Progress`.
    """

    parts: list[slice]
    parsing: list[np.ndarray]
    pictures: list[np.ndarray | None]
    latents: dict[str, list[np.ndarray]]
    drawn: dict[str, np.ndarray]


def render_frames(
    folder: Path,
    tracks: list[Track],
    sequences: list[Sequence],
    writers: SequenceOf[Writer],
    stages: Stages,
    seconds: Stopwatch,
) -> Progress:
    """Renders all frames of the tracks, chunk by chunk, from where the `Progress` in `folder` says; returns the last.

    Memory does not grow with the tracks' length.

    Args:
        writers: of each sequence. A track's warm-up is not handed to them.

    Raises:
        UserError: a stage gives numbers that are not finite, or the disk is full.
    """
    progress = Progress.read(folder)
    stages.resume(tracks, sequences, progress)
    done = sum(min(progress.done, len(tracks[each.track].indices)) for each in sequences)
    total = sum(len(tracks[each.track].indices) for each in sequences)
    mapped = _with_maps(tracks, stages, progress, seconds)
    with (
        ahead(mapped) as mapped,
        ahead(_with_pictures(mapped, tracks, sequences, stages, seconds)) as finished,
        tqdm(total=total, initial=done, desc="render", unit="frame", smoothing=0.05) as bar,
    ):
        if done < total:
            # Which takes a minute or more where networks are large.
            bar.set_postfix_str("compiling, or reading what is compiled")
        for part in finished:
            bar.set_postfix_str("", refresh=False)
            with seconds("write"):
                for sequence, writer, pictures in zip(sequences, writers, part.pictures, strict=True):
                    track, where = tracks[sequence.track], part.parts[sequence.track]
                    shown = slice(min(max(track.warm_up - where.start, 0), where.stop - where.start), None)
                    frames, parsing = track.indices[where][shown], part.parsing[sequence.track][shown]
                    if len(frames):
                        writer.write(frames, parsing, None if pictures is None else pictures[shown])
                progress = replace(_after(progress, part, tracks, sequences), seconds=seconds.totals())
                progress.write(folder)
            bar.update(sum(part.parts[each.track].stop - part.parts[each.track].start for each in sequences))
    return progress


def _with_maps(tracks: list[Track], stages: Stages, progress: Progress, seconds: Stopwatch) -> Iterator[_Chunk]:
    states = [
        Still(stages.still, **{name: values[number] for name, values in progress.drawn.items()})
        for number in range(len(tracks))
    ]
    for parts in chunks(tracks, stages.length, progress.done):
        if stages.outlines is None:
            with seconds("outlines"):
                parsing = [_own_maps(track, part) for track, part in zip(tracks, parts, strict=True)]
            yield _Chunk(parts, parsing, [], {}, {})
            continue
        with seconds("outlines"):
            frames, shown = [], []
            for track, part, state in zip(tracks, parts, states, strict=True):
                numbers, starts = track.indices[part], track.starts[part]
                conditions = _none(track, 3 * stages.window)
                if len(numbers):
                    conditions = outlines_of(track.driver, numbers, stages.window)
                drawn, shows = state.choose(conditions, starts)
                text = np.broadcast_to(stages.text, (len(drawn), *stages.text.shape))
                frames.append(Frames(conditions[drawn], numbers[drawn], starts[drawn], text))
                shown.append(shows)
            results = _sampled(stages.outlines, "outlines", frames)
            parsing = [
                state.maps(colorize(decode(maps, stages.labels)), shows)
                for state, (_, maps), shows in zip(states, results, shown, strict=True)
            ]
            drawn = {}
            if stages.still:
                drawn = {name: np.array([getattr(each, name) for each in states]) for name in STILL}
        yield _Chunk(parts, parsing, [], {"outlines": [latents for latents, _ in results]}, drawn)


def _own_maps(track: Track, part: slice) -> np.ndarray:
    """The driver's maps, uint8 [n, S, S, 3]."""
    return track.driver.capture.parsing(track.indices[part]) if part.stop > part.start else _none(track, 3)


def _with_pictures(
    chunks: Iterator[_Chunk], tracks: list[Track], sequences: list[Sequence], stages: Stages, seconds: Stopwatch
) -> Iterator[_Chunk]:
    for chunk in chunks:
        if stages.details is None:
            yield replace(chunk, pictures=[None] * len(sequences))
            continue
        with seconds("details"):
            conditions = [
                details_of(track.driver, track.indices[part], parsing) if len(parsing) else _none(track, 9)
                for track, part, parsing in zip(tracks, chunk.parts, chunk.parsing, strict=True)
            ]
            frames = []
            for sequence in sequences:
                track, part = tracks[sequence.track], chunk.parts[sequence.track]
                numbers = track.indices[part]
                text = sequence.timeline.at((numbers - track.shown_from) / float(track.driver.frame_rate))
                frames.append(Frames(conditions[sequence.track], numbers, track.starts[part], text))
            results = _sampled(stages.details, "details", frames)
        latents = chunk.latents | {"details": [latent for latent, _ in results]}
        yield replace(chunk, pictures=[pictures for _, pictures in results], latents=latents)


def _none(track: Track, channels: int) -> np.ndarray:
    """The conditions or maps of no frames."""
    return np.empty((0, track.driver.size, track.driver.size, channels), np.uint8)


def _sampled(sampler: StageSampler, stage: str, frames: list[Frames]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each row latents and pictures, as the sampler gives them; UserError where it has diverged."""
    try:
        return sampler(frames)
    except FloatingPointError as error:
        raise UserError(
            f"the {stage} stage gives numbers that are not finite at frame {error} of the driver; its training may "
            "have diverged, or a temporal weight, --guidance or --strength is too large"
        ) from None


def _after(progress: Progress, chunk: _Chunk, tracks: list[Track], sequences: list[Sequence]) -> Progress:
    """What is done with `chunk`, and the last latents; of a track that had ended before, those it ended with."""
    rows = {"outlines": range(len(tracks)), "details": [each.track for each in sequences]}
    last, warm = dict(progress.latents), dict(progress.warmed_up)
    for stage, latents in chunk.latents.items():
        shape = latents[0].shape[1:]
        last[stage] = last.get(stage, np.zeros((len(latents), *shape), np.float32)).copy()
        warm[stage] = warm.get(stage, np.zeros((len(latents), *shape), np.float32)).copy()
        for row, (number, each) in enumerate(zip(rows[stage], latents, strict=True)):
            if len(each):
                last[stage][row] = each[-1]
            place = tracks[number].warm_up - 1 - chunk.parts[number].start
            if 0 <= place < len(each):
                warm[stage][row] = each[place]
    return Progress(max(part.stop for part in chunk.parts), last, warm, chunk.drawn)
