"""`svp evaluate`: scores of one or several methods against a reference, beside two baselines and a ceiling."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from svp_jax.capture.images import read_png, write_png
from svp_jax.capture.sheet import contact_sheet
from svp_jax.manifest import check_output, read_manifest, staged_folder, write_manifest, write_text
from svp_jax.metrics.comparison import Comparison, compare
from svp_jax.metrics.differences import differences
from svp_jax.metrics.measured import GROUPS, Measured, check_groups, measured
from svp_jax.metrics.protocol import kind_of_pictures, protocol_of, protocol_sha256
from svp_jax.metrics.report import latex, left_out, markdown, write_page
from svp_jax.metrics.report.tables import MARK_NOTE
from svp_jax.metrics.score import means

SHEET_COLUMNS = 8
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
        metrics: some of `measured.GROUPS`.

    Raises:
        UserError: bad input, unknown metrics, or sizes or numbers of frames that do not fit.
    """
    check_groups(metrics)
    check_output(out, "report", force)
    comparison = compare([subjects] if isinstance(subjects, str | Path) else list(subjects), reference)
    with staged_folder(out, "report", force) as folder:
        manifest = _manifest(comparison, measured(comparison, metrics, folder))
        write_png(folder / "contact_sheet.png", _sheet(comparison))
        _write_table(folder / "frames.csv", comparison, manifest["per_frame"])
        shown = {name: comparison.rows[name] for name in comparison.methods}
        write_page(folder, ", ".join(comparison.methods), manifest, shown | {"reference": comparison.references})
        write_text(folder / "table.md", markdown(manifest))
        write_text(folder / "table.tex", latex(manifest))
        write_manifest(folder, "report", manifest)
    return Path(out)


def _manifest(comparison: Comparison, found: Measured) -> dict:
    scores = {name: means(regions) for name, regions in found.per_frame.items()}
    for name, totals in found.totals.items():
        scores[name].setdefault("full", {}).update(totals)
    known = {metric for regions in scores.values() for metrics in regions.values() for metric in metrics}
    # Once: it reads a whole video for its hash.
    described = comparison.reference.describe()
    protocol = protocol_of(comparison, described, known, found.networks)
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
    rate = float(comparison.reference.frame_rate)
    return {
        "reference": described,
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
    return summarized(read_manifest(report, "report"))


def summarized(manifest: dict) -> str:
    """The same of a report's manifest."""
    present = {metric for regions in manifest["scores"].values() for values in regions.values() for metric in values}
    columns = {metric: each for metric, each in SUMMARIZED.items() if metric in present}
    width = max(16, *(len(name) + 2 for name in manifest["scores"]))
    lines = [f"{'':{width}}{'':8}{''.join(f'{label:>12}' for label, _ in columns.values())}"]
    for name, regions in manifest["scores"].items():
        for region, values in regions.items():
            cells = [_cell(values, metric, spec) for metric, (_, spec) in columns.items()]
            lines.append(f"{name:{width}}{region:8}{''.join(f'{cell:>12}' for cell in cells)}")
    lines += [f"left out, {names}: {reason}" for names, reason in left_out(manifest)]
    different = [
        name for name, method in manifest["methods"].items() if method["protocol_sha256"] != manifest["protocol_sha256"]
    ]
    if different:
        lines.append(f"{', '.join(different)}: {MARK_NOTE}")
    protocol, pairing = manifest["protocol"], {method["pairing"]: "" for method in manifest["methods"].values()}
    if trained := protocol["frames_of_the_references_training_split"]:
        lines.append(
            f"{trained} of the frames are of the reference's training part, which flatters who was trained on it"
        )
    height, width = protocol["size"]
    lines.append(f"{protocol['frames_scored']} frames of {height} x {width} pixels; {'; '.join(pairing)}")
    return "\n".join(lines)


def _cell(values: dict, metric: str, spec: str) -> str:
    if values.get(metric) is None:
        # Of equal pictures.
        return "inf" if values.get(f"{metric}_infinite") else "-"
    return format(values[metric], spec)


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
