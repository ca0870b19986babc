"""Whether each picture shows the face that the reference shows, by one tracker and one parser that look at both."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from svp_jax.metrics.control import (
    Tracked,
    expression_distance,
    landmark_distance,
    parse_picture,
    parsing_agreement,
    picture_parser,
    pose_distance,
    track_pictures,
)
from svp_jax.metrics.meters.meter import Regions
from svp_jax.metrics.sources import Pictures
from svp_jax.metrics.temporal import landmark_jitter

TRACKING = ("landmark_distance", "expression_distance", "pose_distance", "landmark_jitter", "faces_missing")
PARSING = ("parsing_agreement",)


def track(pictures: dict[str, Pictures], count: int, frame_rate: Fraction) -> dict[str, Tracked]:
    """What the tracker sees in each of `pictures`, of `count` frames.

    Raises:
        UserError: the tracker's model is not there.
    """
    found = {}
    for name, each in pictures.items():
        shown = tqdm(each(np.arange(count)), desc=f"track {name}", total=count, unit="frame")
        found[name] = track_pictures(shown, frame_rate)
    return found


def tracking_scores(rows: list[Tracked], reference: Tracked, follows: np.ndarray) -> list[tuple[Regions, dict]]:
    """Of each row the scores per frame, and of the whole video jitter, the reference's own, and lost faces."""
    own = landmark_jitter(reference.landmarks, follows)
    found = []
    for row in rows:
        values = {
            "landmark_distance": landmark_distance(row.landmarks, reference.landmarks),
            "expression_distance": expression_distance(row.blendshapes, reference.blendshapes),
            "pose_distance": pose_distance(row.rotation, reference.rotation),
        }
        jitter = landmark_jitter(row.landmarks, follows)
        # Scores leave them out: who loses the face looks better than he is.
        missing = int((reference.found & ~row.found).sum())
        totals = {"landmark_jitter": jitter, "landmark_jitter_reference": own, "faces_missing": missing}
        found.append(({"full": values}, totals))
    return found


def parsing_scores(
    rows: list[tuple[Pictures, Tracked]], reference: tuple[Pictures, Tracked], count: int
) -> tuple[tuple[Path, ...], list[Regions]]:
    """The parser's files, and of each row the agreement of its parsing maps with the reference's, per frame.

    Raises:
        UserError: there is no parser, or the pictures are not square.
    """
    numbers = np.arange(count)
    values = [np.full(count, np.nan) for _ in rows]
    with picture_parser() as (parser, files):
        shown = zip(*(pictures(numbers) for pictures, _ in (reference, *rows)), strict=True)
        for number, (truth, *images) in enumerate(tqdm(shown, desc="parse", total=count, unit="frame")):
            expected = parse_picture(parser, truth, reference[1].landmarks[number])
            if expected is None:
                continue
            for row, image in enumerate(images):
                labels = parse_picture(parser, image, rows[row][1].landmarks[number])
                # Without a face in the picture nothing agrees.
                values[row][number] = 0.0 if labels is None else parsing_agreement(labels, expected)
    return files, [{"full": {"parsing_agreement": each}} for each in values]
