"""Whether generated pictures follow their conditions: compared with the true picture of their own frame and of another.

A ControlNet starts to follow its condition suddenly, and the loss does not show when. Until then what it draws for a
frame is as near to any other frame of the clip; from then on it is nearer to its own. So every score has a second one,
`..._other_frame`, of the same pictures against the truth of other frames.
"""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.errors import UserError
from svp_jax.face.labels import decode
from svp_jax.face.parsers import SEGMENTER, default_parser, open_parser
from svp_jax.face.parsing import parsing_labels
from svp_jax.face.tracking import find_landmarks
from svp_jax.metrics.control import landmark_distance, parsing_agreement
from svp_jax.model_files import how_to_get

Scores = dict[str, float]
Following = Callable[[np.ndarray], Scores]
"""Pictures uint8 [n, S, S, 3] of the frames that it was made with -> scores by name."""


def following(capture: Capture, stage: str, truth: np.ndarray) -> Following:
    """The score of a stage.

    Outlines: `parsing_agreement` (share of pixels with the true label) and `mean_iou` of the parsing maps. Details: the
    same of the maps that a parser finds in the frames, and `landmark_distance`, between the landmarks that MediaPipe
    finds in them (brows, nose, eyes, lips), in percent of the distance between the outer corners of the eyes. Of the
    details, `faces_found` counts the pictures in which MediaPipe finds a face; the other scores are of these alone.

    What cannot be measured here, because a model file is missing or the true frames show no face, is left out, with a
    warning now.

    Args:
        truth: the true parsing maps or frames, uint8 [n, S, S, 3]; n is 2 or more.
    """
    if stage == "outlines":
        return functools.partial(_score_maps, truth=decode(truth))
    try:
        landmarks = find_landmarks(truth)
    except UserError as error:
        warnings.warn(f"the previews of details get no following score: {error}", stacklevel=2)
        return lambda pictures: {}
    there = [number for number, points in enumerate(landmarks) if points is not None]
    if len(there) < 2:
        warnings.warn(
            f"the previews of details get no following score: a face is found in {len(there)} of {len(truth)} true "
            "frames",
            stacklevel=2,
        )
        return lambda pictures: {}
    landmarks = np.stack([landmarks[number] for number in there])
    parser = _parser_of(capture)
    labels = None if parser is None else _parse(parser, truth[there], landmarks)
    return functools.partial(_score_frames, there=there, landmarks=landmarks, labels=labels, parser=parser)


def _score_maps(pictures: np.ndarray, truth: np.ndarray) -> Scores:
    return parsing_scores(decode(pictures), truth, np.arange(len(truth)))


def _score_frames(
    pictures: np.ndarray, there: list[int], landmarks: np.ndarray, labels: np.ndarray | None, parser: str | None
) -> Scores:
    """Arguments but the first: the frames with a true face, and of these landmarks and labels as `parser` gives."""
    found = find_landmarks(pictures[there])
    shown = np.array([number for number, points in enumerate(found) if points is not None], int)
    scores = {"faces_found": len(shown)}
    if not len(shown):
        return scores
    found = np.stack([found[number] for number in shown])
    scores |= landmark_scores(found, landmarks, shown)
    if labels is not None:
        scores |= parsing_scores(_parse(parser, pictures[there][shown], found), labels, shown)
    return scores


def parsing_scores(labels: np.ndarray, truth: np.ndarray, frames: np.ndarray) -> Scores:
    """Agreement and mean IoU of labels [n, S, S] with those of their frames.

    Args:
        truth: labels uint8 [N, S, S] of all frames.
        frames: int [n], which of them each of `labels` shows.
    """
    own, other = truth[frames], truth[_others(frames, len(truth))]
    return {
        "parsing_agreement": float((labels == own).mean()),
        "mean_iou": parsing_agreement(labels, own),
        "mean_iou_other_frame": parsing_agreement(labels, other),
    }


def landmark_scores(landmarks: np.ndarray, truth: np.ndarray, frames: np.ndarray) -> Scores:
    """Mean distance of landmarks [n, 478, 3] from those of their frames, in percent of the true eye distance.

    Args:
        truth: float [N, 478, 3] of all frames.
        frames: int [n], which of them each of `landmarks` shows.
    """
    own, other = truth[frames], truth[_others(frames, len(truth))]
    return {
        "landmark_distance": float(landmark_distance(landmarks, own).mean()),
        "landmark_distance_other_frame": float(landmark_distance(landmarks, other).mean()),
    }


def _others(frames: np.ndarray, count: int) -> np.ndarray:
    """For each of `frames` one that is half of all `count` away."""
    return (frames + count // 2) % count


def _parser_of(capture: Capture) -> str | None:
    """The parser that the capture was made with where it is here, else the first that is; None, with a warning."""
    own = capture.manifest.get("settings", {}).get("parser")
    choice = own if own is not None and Path(own).is_file() else default_parser()
    try:
        with open_parser(choice) as (_, parser, _):
            reason = f"there is no parser: {how_to_get(SEGMENTER)}"
    except UserError as error:
        parser, reason = None, str(error)
    if parser is None:
        warnings.warn(f"the previews of details get no parsing agreement: {reason}", stacklevel=3)
        return None
    return choice


def _parse(parser: str, pictures: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Labels uint8 [n, S, S] of pictures with faces."""
    with open_parser(parser) as (_, parse, _):
        size = pictures.shape[1]
        return np.stack([parsing_labels(parse(p, size), q) for p, q in zip(pictures, landmarks, strict=True)])
