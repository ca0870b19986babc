"""The second pass over a video: each frame cropped and parsed, with what is drawn of its face model."""

import itertools
from collections.abc import Iterator

import numpy as np

from svp_jax.capture.crop import Crop
from svp_jax.capture.options import PrepareOptions
from svp_jax.capture.video import Video
from svp_jax.face.labels import colorize
from svp_jax.face.parsers import Parser
from svp_jax.face.parsing import guessed_scores, parsing_labels, smooth_scores


def prepared_frames(
    source: Video,
    options: PrepareOptions,
    shot: np.ndarray,
    landmarks: np.ndarray,
    crop: Crop,
    parser: Parser | None,
    drawn: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[int, tuple[np.ndarray, ...], np.ndarray | None]]:
    """(number, (frame, parsing, geometry, iris), landmarks or None) of each source frame.

    Args:
        shot: int [N], -1 without a face. landmarks: [N, L, 3] in pixels of the crop.
        parser: None guesses from the landmarks.
        drawn: (geometry, iris map) of each frame.
    """
    empty = np.zeros((options.size, options.size, 3), np.uint8)
    scored = _scored_frames(source, options, shot, landmarks, crop, parser)
    for number, image, scores in _smoothed_in_time(scored, shot):
        geometry, iris = next(drawn)
        if scores is None:
            yield number, (image, empty, empty, empty), None
            continue
        points = landmarks[number]
        yield number, (image, colorize(parsing_labels(scores, points)), geometry, iris), points


def _scored_frames(
    source: Video, options: PrepareOptions, shot: np.ndarray, landmarks: np.ndarray, crop: Crop, parser: Parser | None
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """(number, crop, the parser's scores at the capture's size or None) of each source frame."""
    # The count first: asking for one frame more would meet the damage of a broken file again.
    for number, (_, frame) in zip(range(len(shot)), source.frames(options.start, options.stop), strict=False):
        scores = None
        if shot[number] >= 0:
            if parser is None:
                scores = guessed_scores(landmarks[number], options.size)
            else:
                scores = parser(crop.image(frame, crop.side), options.size)
        yield number, crop.image(frame), scores


def _smoothed_in_time(
    scored: Iterator[tuple[int, np.ndarray, np.ndarray | None]], shot: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """The same triples, one frame late, with scores averaged over neighbours of the same shot."""
    before, now = None, None
    for after in itertools.chain(scored, [None]):
        if now is not None:
            number, image, scores = now
            if scores is not None:
                around = (
                    item[2] if item is not None and shot[item[0]] == shot[number] else None for item in (before, after)
                )
                scores = smooth_scores(next(around), scores, next(around))
            yield number, image, scores
        before, now = now, after
