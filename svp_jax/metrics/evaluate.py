"""`svp evaluate`: a report of scores against a reference, beside two baselines and a ceiling."""

import csv
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import read_png, write_png
from svp_jax.capture.sheet import contact_sheet
from svp_jax.errors import UserError
from svp_jax.face.labels import FACE_LABELS, decode, face_mask
from svp_jax.manifest import check_output, read_manifest, staged_folder, write_manifest
from svp_jax.metrics.baselines import (
    SIGNATURE_SIDE,
    avatar_vae,
    mean_training_frame,
    nearest_training_frames,
    render_avatar,
)
from svp_jax.metrics.score import METRICS, Scores, means, score
from svp_jax.metrics.sources import Pairs, Source, open_source, pair_frames
from svp_jax.models.codec import round_trips
from svp_jax.weights.component import instantiate

SHEET_COLUMNS = 8
Pictures = Callable[[np.ndarray], Iterator[np.ndarray]]  # numbers of pairs, rising -> their pictures


@dataclass(frozen=True)
class Comparison:
    """All that is scored against one reference: `candidates` name -> pictures, `left_out` name -> reason."""

    subject: Source
    reference: Source
    pairs: Pairs
    candidates: dict[str, Pictures]
    left_out: dict[str, str]

    def references(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        return self.reference.pictures(self.pairs.reference[numbers])

    def masks(self) -> Iterator[np.ndarray] | None:
        """The face in each reference frame, bool [H, W]; None where the reference has no parsing maps."""
        capture = self.reference.capture
        if capture is None:
            return None
        return (face_mask(decode(capture.parsing([index])[0])) for index in self.pairs.reference)


def evaluate(subject: Path, reference: Path, out: Path, force: bool = False) -> Path:
    """Scores `subject` against `reference` into the folder `out`; returns it.

    out/
      metrics.json       scores (means and per frame) and the protocol that made them
      frames.csv         the per-frame scores as a table
      contact_sheet.png  reference, result, baselines and conditions, spread in time

    A render is scored by its frames without loss, as the baselines are; a video file as it is decoded. A number
    that is not defined (no face in a frame) or not finite (the PSNR of equal pictures) is null; means leave it out,
    and `psnr_infinite` counts the frames whose pictures are equal.

    Args:
        subject, reference: a render folder, a capture or a video file each.
        force: replace a finished report.

    Raises:
        UserError: bad input, or sizes or numbers of frames that do not fit.
    """
    check_output(out, "report", force)
    comparison = _compare(open_source(subject), open_source(reference))
    with staged_folder(out, "report", force) as folder:
        scores = {name: _score(name, comparison) for name in comparison.candidates}
        write_png(folder / "contact_sheet.png", _sheet(comparison))
        _write_table(folder / "frames.csv", comparison, scores)
        body = {
            "subject": comparison.subject.describe(),
            "reference": comparison.reference.describe(),
            "protocol": _protocol(comparison),
            "left_out": comparison.left_out,
            "scores": {name: _numbers(means(each)) for name, each in scores.items()},
            "per_frame": {name: _numbers(each) for name, each in scores.items()},
        }
        write_manifest(folder, "report", body)
    return Path(out)


def summary(report: Path) -> str:
    """The scores of a finished report as a table of text."""
    manifest = read_manifest(report, "report")
    lines = [f"{'':16}{'':6}{'PSNR dB':>9}{'SSIM':>9}{'MSE':>10}{'smoothness':>12}"]
    formats = {"psnr": "9.2f", "ssim": "9.4f", "mse": "10.6f", "smoothness": "12.5f"}
    for name, regions in manifest["scores"].items():
        for region, values in regions.items():
            cells = [
                format(values[metric], spec) if values[metric] is not None else format("-", f">{spec.split('.')[0]}")
                for metric, spec in formats.items()
            ]
            lines.append(f"{name:16}{region:6}{''.join(cells)}")
    lines += [f"{name} is left out: {reason}" for name, reason in manifest["left_out"].items()]
    protocol = manifest["protocol"]
    height, width = protocol["size"]
    lines.append(f"{protocol['frames_scored']} frames of {width} x {height} pixels; {protocol['pairing']}")
    return "\n".join(lines)


def _compare(subject: Source, reference: Source) -> Comparison:
    pairs = pair_frames(subject, reference)
    candidates: dict[str, Pictures] = {"result": lambda numbers: subject.pictures(pairs.subject[numbers])}
    left_out: dict[str, str] = {}
    try:
        training = _training_captures(subject, reference)
        sources, frames = nearest_training_frames(training, reference.capture, pairs.reference)
        mean = mean_training_frame(training)
        candidates["nearest_frame"] = lambda numbers: (
            training[source].frames([frame])[0] for source, frame in zip(sources[numbers], frames[numbers], strict=True)
        )
        candidates["mean_frame"] = lambda numbers: itertools.repeat(mean, len(numbers))
    except UserError as reason:
        left_out["nearest_frame"] = left_out["mean_frame"] = str(reason)
    try:
        if subject.render is None:
            raise UserError(f"{subject.path} is no render, so it is not known whose VAE to use")
        vae = instantiate(avatar_vae(subject.render))
        candidates["vae_round_trip"] = lambda numbers: round_trips(vae, reference.pictures(pairs.reference[numbers]))
    except UserError as reason:
        left_out["vae_round_trip"] = str(reason)
    if reference.capture is None:
        left_out["face"] = f"{reference.path} is a {reference.kind}: a face mask needs the parsing maps of a capture"
    return Comparison(subject, reference, pairs, candidates, left_out)


def _training_captures(subject: Source, reference: Source) -> list[Capture]:
    """The captures whose training frames the baselines look up: the avatar's, or the reference itself."""
    if reference.capture is None:
        raise UserError(f"{reference.path} is a {reference.kind}: the baselines need the condition images of a capture")
    training = [reference.capture]
    if subject.render is not None:
        training = [_made_from(each, reference.capture) for each in render_avatar(subject.render)["captures"]]
    with_faces = [capture for capture in training if len(capture.train_indices)]
    if not with_faces:
        raise UserError(f"{training[0].folder} has no frame with a face in its training split")
    if training[0].size != reference.height:
        raise UserError(f"{training[0].folder} is {training[0].size} pixels wide, {reference.path} {reference.width}")
    return with_faces


def _made_from(recorded: dict, reference: Capture) -> Capture:
    """The capture that an avatar's manifest describes; UserError where it is another by now."""
    if recorded["manifest_sha256"] == reference.manifest["manifest_sha256"]:
        return reference
    capture = open_capture(Path(recorded["path"]))
    if recorded["manifest_sha256"] != capture.manifest["manifest_sha256"]:
        raise UserError(f"the capture {capture.folder} is not the one that the avatar was trained on any more")
    return capture


def _score(name: str, comparison: Comparison) -> Scores:
    numbers = np.arange(len(comparison.pairs.subject))
    pictures = tqdm(comparison.candidates[name](numbers), desc=f"score {name}", total=len(numbers), unit="frame")
    return score(pictures, comparison.references(numbers), comparison.masks(), comparison.pairs.follows)


def _protocol(comparison: Comparison) -> dict:
    pairs, subject, reference = comparison.pairs, comparison.subject, comparison.reference
    in_training = 0
    if reference.capture is not None:
        in_training = int(np.isin(pairs.reference, reference.capture.train_indices).sum())
    packed = " as decoded" if subject.kind == "video" else ""
    return {
        "pictures": f"the {subject.kind}'s{packed}; a render's, the baselines' and the round trip's never saw a codec",
        "size": [subject.height, subject.width],
        "crop": "none: whole frames",
        "resize": "none",
        "value_range": "0 to 1 (8-bit values / 255)",
        "frames_scored": len(pairs.subject),
        "frames_left_out": pairs.left_out,
        "frames_of_the_references_training_split": in_training,
        "pairing": pairs.rule,
        "subject_frames": pairs.subject.tolist(),
        "reference_frames": pairs.reference.tolist(),
        "mask": f"face: reference pixels whose parsing label is one of {', '.join(FACE_LABELS)}",
        "mean": "over the frames where a number is defined and finite; psnr_infinite counts equal pictures",
        "psnr": "-10 log10 of the frame's MSE over pixels and RGB, in dB",
        "ssim": "scikit-image defaults: uniform 7 x 7 window, sample covariance, per RGB channel, borders of "
        "3 pixels left out; masked: the map averaged over the mask",
        "mse": "over pixels and RGB",
        "smoothness": "mean |(r_n - r_(n-1)) - (g_n - g_(n-1))| over consecutive frames of one shot; masked: "
        "pixels in either frame's mask",
        "smoothness_pairs": int(pairs.follows.sum()),
        "nearest_frame": "training frame with the least Euclidean distance between parsing, geometry and "
        f"iris maps averaged down to {SIGNATURE_SIDE} x {SIGNATURE_SIDE} pixels",
        "mean_frame": "mean of the training frames",
        "vae_round_trip": "reference encoded (posterior mean) and decoded by the VAE that the result was made with",
        "versions": {name: metadata.version(name) for name in ("svp_jax", "numpy", "av", "jax")},
    }


def _sheet(comparison: Comparison) -> np.ndarray:
    pairs = comparison.pairs
    numbers = np.unique(np.linspace(0, len(pairs.subject) - 1, SHEET_COLUMNS).round().astype(int))
    frames = pairs.reference[numbers]
    rows = {"reference": list(comparison.references(numbers))}
    for name in ("result", "nearest_frame", "mean_frame"):
        if name in comparison.candidates:
            rows[name.replace("_", " ")] = list(comparison.candidates[name](numbers))
    capture = comparison.reference.capture
    if capture is not None:
        rows |= {
            "parsing": list(_parsing_shown(comparison, numbers)),
            "geometry": list(capture.geometry(frames)),
        }
        rows["iris"] = list(capture.iris(frames))
    return contact_sheet(rows, [f"frame {index}" for index in frames])


def _parsing_shown(comparison: Comparison, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The parsing maps that the result was made from: the first stage's where the render kept them."""
    pairs, render = comparison.pairs, comparison.subject.render
    for number in numbers:
        if render is not None:
            made = comparison.subject.path / "parsing" / f"{render['frames'][pairs.subject[number]]:06d}.png"
            if made.is_file():
                yield read_png(made)
                continue
        yield comparison.reference.capture.parsing([pairs.reference[number]])[0]


def _write_table(path: Path, comparison: Comparison, scores: dict[str, Scores]) -> None:
    """One row per frame, one column per candidate, region and metric; empty where not defined."""
    pairs = comparison.pairs
    columns = {
        f"{name}_{region}_{metric}": _numbers(values[metric])
        for name, regions in scores.items()
        for region, values in regions.items()
        for metric in METRICS
    }
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject_frame", "reference_frame", *columns])
        writer.writerows(zip(pairs.subject, pairs.reference, *columns.values(), strict=True))


def _numbers(values):
    """Plain numbers for JSON and CSV, in the same nesting; None for what is not finite."""
    if isinstance(values, dict):
        return {key: _numbers(value) for key, value in values.items()}
    if isinstance(values, int):
        return values
    if isinstance(values, np.ndarray):
        return [_numbers(float(value)) for value in values]
    return float(f"{values:.8g}") if math.isfinite(values) else None
