"""`svp evaluate`: scores of one or several methods against a reference, beside two baselines and a ceiling."""

import csv
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from svp_jax.capture.images import read_png, write_png
from svp_jax.capture.sheet import contact_sheet
from svp_jax.errors import UserError
from svp_jax.manifest import check_output, read_manifest, staged_folder, write_manifest, write_text
from svp_jax.metrics.comparison import Comparison, compare
from svp_jax.metrics.control import IDENTITY_LEFT_OUT
from svp_jax.metrics.differences import differences
from svp_jax.metrics.meters.distribution import DISTRIBUTION, DistributionMeter
from svp_jax.metrics.meters.meter import Meter, Regions
from svp_jax.metrics.meters.motion import MOTION, MotionMeter
from svp_jax.metrics.meters.perceptual import PerceptualMeter, perceptual
from svp_jax.metrics.meters.pictures import PICTURES, PictureMeter
from svp_jax.metrics.meters.scales import SCALES, ScalesMeter
from svp_jax.metrics.networks import open_inception, open_lpips
from svp_jax.metrics.protocol import kind_of_pictures, protocol_of, protocol_sha256
from svp_jax.metrics.report import latex, markdown, write_page
from svp_jax.metrics.score import joined, means, score
from svp_jax.metrics.tracked import PARSING, TRACKING, parsing_scores, track, tracking_scores

SHEET_COLUMNS = 8
# What can be asked for, and the metrics of each.
GROUPS = {
    "pictures": PICTURES,
    "scales": SCALES,
    "motion": MOTION,
    "lpips_alex": perceptual("alex"),
    "lpips_vgg": perceptual("vgg"),
    "distribution": DISTRIBUTION,
    "tracking": (*TRACKING, *PARSING),
}
# Of the table that is printed: heading and format.
SUMMARIZED = {
    "psnr": ("PSNR dB", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "mse": ("MSE", ".6f"),
    "lpips_alex": ("LPIPS", ".4f"),
    "fid": ("FID", ".2f"),
    "smoothness": ("smoothness", ".5f"),
    "landmark_distance": ("landmarks %", ".2f"),
}
NOT_ASKED_FOR = "not among --metrics"


@dataclass
class Measured:
    """What was found out.

    Attributes:
        per_frame: row -> region -> metric -> float [N]. totals: row -> metric -> number of the whole video.
        networks: name -> file -> SHA-256 of the weights.
        left_out: metric -> reason.
    """

    per_frame: dict[str, Regions]
    totals: dict[str, dict[str, float]]
    networks: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, per_frame: Sequence[Regions], totals: Sequence[dict[str, float]]) -> None:
        """Of each row, in order."""
        for name, regions, numbers in zip(self.per_frame, per_frame, totals, strict=True):
            self.per_frame[name] = joined([self.per_frame[name], regions])
            self.totals[name] |= numbers


def evaluate(
    subjects: Path | Sequence[Path],
    reference: Path,
    out: Path,
    force: bool = False,
    metrics: Sequence[str] = tuple(GROUPS),
) -> Path:
    """Scores one or several methods against `reference` into the folder `out`; returns it.

    out/
      metrics.json       scores (means and per frame), differences, and the protocol that made them
      frames.csv         the per-frame scores as a table
      contact_sheet.png  reference, results, baselines and conditions, spread in time
      report.html        all of it to look at: tables, curves beside a player, the protocol; needs no network
      table.md, .tex     the scores as tables

    A render is scored by its frames without loss, as the baselines are; a video file as it is decoded. Several methods
    are scored on the frames that all of them show. A number that is not defined (no face in a frame) or not finite (the
    PSNR of equal pictures) is null; means leave it out, and `psnr_infinite` counts the frames whose pictures are equal.
    A metric whose weights are not there is left out, with the reason.

    Args:
        subjects, reference: a render folder, a capture or a video file each.
        force: replace a finished report.
        metrics: some of `GROUPS`.

    Raises:
        UserError: bad input, or sizes or numbers of frames that do not fit.
    """
    check_output(out, "report", force)
    comparison = compare([subjects] if isinstance(subjects, str | Path) else list(subjects), reference)
    with staged_folder(out, "report", force) as folder:
        measured = _measure(comparison, metrics, folder)
        manifest = _manifest(comparison, measured)
        write_png(folder / "contact_sheet.png", _sheet(comparison))
        _write_table(folder / "frames.csv", comparison, manifest["per_frame"])
        shown = {name: comparison.rows[name] for name in comparison.methods}
        write_page(folder, manifest, shown | {"reference": comparison.references})
        write_text(folder / "table.md", markdown(manifest))
        write_text(folder / "table.tex", latex(manifest))
        write_manifest(folder, "report", manifest)
    return Path(out)


def _measure(comparison: Comparison, metrics: Sequence[str], folder: Path) -> Measured:
    """All that `metrics` ask for; `folder` is where large things may lie meanwhile."""
    count, rows, reference = len(comparison.frames.reference), len(comparison.rows), comparison.reference
    size = reference.height, reference.width
    found = Measured({name: {} for name in comparison.rows}, {name: {} for name in comparison.rows})
    found.left_out["identity"] = IDENTITY_LEFT_OUT
    features = folder / "features"
    features.mkdir()
    openers: dict[str, Callable[[], Meter]] = {
        "pictures": lambda: PictureMeter(count, rows, comparison.regions),
        "scales": lambda: ScalesMeter(count, rows, *size),
        "motion": lambda: MotionMeter(count, rows, comparison.regions),
        "lpips_alex": lambda: PerceptualMeter(count, rows, *size, open_lpips("alex")),
        "lpips_vgg": lambda: PerceptualMeter(count, rows, *size, open_lpips("vgg")),
        "distribution": lambda: DistributionMeter(count, rows, open_inception(), features),
    }
    meters = []
    for group, open_meter in openers.items():
        with _left_out(found, group, metrics) as wanted:
            if wanted:
                meters.append(open_meter())
                found.networks |= meters[-1].networks
    numbers = np.arange(count)
    shown = [pictures(numbers) for pictures in comparison.rows.values()]
    references = tqdm(comparison.references(numbers), desc="score", total=count, unit="frame")
    score(shown, references, comparison.masks(), comparison.frames.follows, meters)
    for meter in meters:
        found.add(meter.per_frame(), meter.totals())
    shutil.rmtree(features)
    with _left_out(found, "tracking", metrics) as wanted:
        if wanted:
            _track(comparison, found)
    return found


@contextmanager
def _left_out(found: Measured, group: str, metrics: Sequence[str]) -> Iterator[bool]:
    """Whether `metrics` ask for a group; why it is left out where they do not, or something that it needs is absent."""
    if group not in metrics:
        found.left_out |= dict.fromkeys(GROUPS[group], NOT_ASKED_FOR)
    try:
        yield group in metrics
    except UserError as reason:
        found.left_out |= dict.fromkeys(GROUPS[group], str(reason))


def _track(comparison: Comparison, found: Measured) -> None:
    """Adds what a tracker and a parser see."""
    count = len(comparison.frames.reference)
    pictures = {"reference": comparison.references} | comparison.rows
    reference, *rows = track(pictures, count, comparison.reference.frame_rate).values()
    scores = tracking_scores(rows, reference, comparison.frames.follows)
    found.add([regions for regions, _ in scores], [totals for _, totals in scores])
    try:
        seen = list(zip(comparison.rows.values(), rows, strict=True))
        name, scores = parsing_scores(seen, (comparison.references, reference), count)
    except UserError as reason:
        found.left_out |= dict.fromkeys(PARSING, str(reason))
    else:
        found.networks["parser"] = {name: ""}
        found.add(scores, [{}] * len(scores))


def _manifest(comparison: Comparison, found: Measured) -> dict:
    scores = {name: means(regions) for name, regions in found.per_frame.items()}
    for name, totals in found.totals.items():
        scores[name].setdefault("full", {}).update(totals)
    measured = {metric for regions in scores.values() for metrics in regions.values() for metric in metrics}
    protocol = protocol_of(comparison, measured, found.networks)
    methods = {}
    for name, source in comparison.methods.items():
        pictures = kind_of_pictures(source)
        methods[name] = {
            "source": source.describe(),
            "pictures": pictures,
            "pairing": comparison.pairs[name].rule,
            "frames_left_out": comparison.pairs[name].left_out,
            "protocol_sha256": protocol_sha256(protocol, pictures),
        }
    reference, rate = comparison.reference, float(comparison.reference.frame_rate)
    return {
        "reference": reference.describe(),
        "methods": methods,
        "protocol": protocol,
        "protocol_sha256": next(iter(methods.values()))["protocol_sha256"],
        "left_out": comparison.left_out | found.left_out,
        "scores": _numbers(scores),
        "differences": _numbers(differences({name: found.per_frame[name] for name in methods}, rate)),
        "frames": {
            "seconds": [round(int(frame) / rate, 6) for frame in comparison.frames.reference],
            "reference": comparison.frames.reference.tolist(),
            "methods": {name: pairs.subject.tolist() for name, pairs in comparison.pairs.items()},
            "follows": comparison.frames.follows.tolist(),
        },
        "per_frame": _numbers(found.per_frame),
    }


def summary(report: Path) -> str:
    """The scores of a finished report as a table of text."""
    manifest = read_manifest(report, "report")
    present = {metric for regions in manifest["scores"].values() for values in regions.values() for metric in values}
    columns = {metric: each for metric, each in SUMMARIZED.items() if metric in present}
    width = max(16, *(len(name) + 2 for name in manifest["scores"]))
    lines = [f"{'':{width}}{'':8}{''.join(f'{label:>12}' for label, _ in columns.values())}"]
    for name, regions in manifest["scores"].items():
        for region, values in regions.items():
            cells = [_cell(values.get(metric), spec) for metric, (_, spec) in columns.items()]
            lines.append(f"{name:{width}}{region:8}{''.join(f'{cell:>12}' for cell in cells)}")
    reasons: dict[str, list[str]] = {}
    for name, reason in manifest["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"left out, {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    different = [
        name for name, method in manifest["methods"].items() if method["protocol_sha256"] != manifest["protocol_sha256"]
    ]
    if different:
        lines.append(f"another protocol than the first one's, so not comparable with it: {', '.join(different)}")
    protocol, first = manifest["protocol"], next(iter(manifest["methods"].values()))
    height, width = protocol["size"]
    lines.append(f"{protocol['frames_scored']} frames of {height} x {width} pixels; {first['pairing']}")
    return "\n".join(lines)


def _cell(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _sheet(comparison: Comparison) -> np.ndarray:
    frames = comparison.frames.reference
    numbers = np.unique(np.linspace(0, len(frames) - 1, SHEET_COLUMNS).round().astype(int))
    rows = {"reference": list(comparison.references(numbers))}
    for name, pictures in comparison.rows.items():
        if name != "vae_round_trip":
            rows[name.replace("_", " ")] = list(pictures(numbers))
    capture = comparison.reference.capture
    if capture is not None:
        rows |= {
            "parsing": list(_parsing_shown(comparison, numbers)),
            "geometry": list(capture.geometry(frames[numbers])),
            "iris": list(capture.iris(frames[numbers])),
        }
    return contact_sheet(rows, [f"frame {index}" for index in frames[numbers]])


def _parsing_shown(comparison: Comparison, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The parsing maps that the first result was made from: the first stage's where the render kept them."""
    subject, pairs = next(iter(comparison.methods.values())), comparison.frames
    for number in numbers:
        if subject.render is not None:
            made = subject.path / "parsing" / f"{subject.render['frames'][pairs.subject[number]]:06d}.png"
            if made.is_file():
                yield read_png(made)
                continue
        yield comparison.reference.capture.parsing([pairs.reference[number]])[0]


def _write_table(path: Path, comparison: Comparison, per_frame: dict[str, dict]) -> None:
    """One row per frame, one column per row of scores, region and metric; empty where not defined."""
    columns = {
        f"{name}_{region}_{metric}": values
        for name, regions in per_frame.items()
        for region, metrics in regions.items()
        for metric, values in metrics.items()
    }
    names = ["subject_frame"]
    if len(comparison.pairs) > 1:
        names = [f"{name}_frame" for name in comparison.pairs]
    subjects = [pairs.subject for pairs in comparison.pairs.values()]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "reference_frame", *columns])
        writer.writerows(zip(*subjects, comparison.frames.reference, *columns.values(), strict=True))


def _numbers(values):
    """Plain numbers for JSON and CSV, in the same nesting; None for what is not finite."""
    if isinstance(values, dict):
        return {key: _numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_numbers(value) for value in values]
    if isinstance(values, int | str | None):
        return values
    if isinstance(values, np.ndarray):
        return [_numbers(float(value)) for value in values]
    return float(f"{values:.8g}") if math.isfinite(values) else None
