"""`report.html`: a report as one page that needs no network: tables, curves, a player, heat maps, the protocol."""

import base64
import hashlib
import html
import json
from fractions import Fraction
from importlib import resources
from pathlib import Path
from string import Template

from svp_jax.errors import UserError
from svp_jax.metrics.report.film import AMPLIFICATION, REFERENCE, Film, make_film
from svp_jax.metrics.report.measures import (
    COMPANIONS,
    REGIONS,
    badness,
    measure,
    metrics_of,
    references_own,
    regions_of,
    rows_of,
)
from svp_jax.metrics.report.sections import (
    differences_section,
    left_out_section,
    protocol_section,
    scores_section,
    sources_section,
)
from svp_jax.metrics.report.tables import MARK
from svp_jax.metrics.sources import Pictures

SCRIPTS = ("dom.js", "curves.js", "player.js", "ablation.js", "page.js")
EXTREMES = 3  # worst frames, and best ones
FILM = "\0"  # stands for the film in the page's text, in which it cannot be
FILM_PART = 3 << 20  # bytes; three make four characters
DIGITS = 5  # significant ones of a number in a curve


def write_page(folder: Path, heading: str, manifest: dict, pictures: dict[str, Pictures]) -> Path:
    """Writes `report.html` into `folder`; returns its path. Sections that the manifest has no data for are left out.

    Args:
        heading: what is scored.
        manifest: of a report (`metrics.json`): reference, methods, scores, per_frame, frames, differences, left_out,
            protocol; may have "ablation": {"axes": {name: [value]}, "metrics": {metric: numbers nested as the axes},
            "points": [{"settings": {axis: value}, "scores": {metric: number}, "on_front": bool, "best": bool}]}.
        pictures: row (and "reference") -> a function of numbers of scored frames, rising, that yields their
            pictures uint8 [H, W, 3]; each is called once. Without "reference" and one more row: no player.

    Raises:
        UserError: the page cannot be written.
    """
    extremes = _extremes(manifest)
    film, count = None, len(manifest.get("frames", {}).get("seconds", []))
    if REFERENCE in pictures and len(pictures) > 1 and count:
        rate = Fraction(manifest["reference"]["frame_rate"])
        film = make_film(pictures, count, rate, _wanted(manifest, extremes), Path(folder) / "film.mp4")
    style = _template("page.css")
    script = "\n".join(_template(name) for name in SCRIPTS)
    page = Template(_template("page.html")).substitute(
        title=html.escape(f"{heading}: scores"),
        heading=html.escape(heading),
        policy=f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "media-src blob:; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        sources=sources_section(manifest),
        scores=scores_section(manifest),
        differences=differences_section(manifest),
        left_out=left_out_section(manifest),
        protocol=protocol_section(manifest),
        film_note=html.escape(_film_note(film, count)),
        amplification=AMPLIFICATION,
        # In a script element nothing but its end tag and "<!--" would be read as mark-up.
        data=json.dumps(_data(manifest, extremes, film), separators=(",", ":")).replace("<", "\\u003c"),
        film=FILM,
    )
    path = Path(folder) / "report.html"
    try:
        _write(path, page, film)
    except OSError as error:
        raise UserError(f"{path}: cannot write ({error.strerror}); free space or choose another --out") from None
    return path


def _write(path: Path, page: str, film: Film | None) -> None:
    """Writes the page, and the film in it part by part, as the page's text would be several times its size."""
    before, after = page.split(FILM)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(before)
        if film is not None:
            with open(film.path, "rb") as content:
                while part := content.read(FILM_PART):
                    file.write(base64.b64encode(part).decode())
            film.path.unlink()
        file.write(after)


def _template(name: str) -> str:
    return resources.files("svp_jax.metrics.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """`text` as a source in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _extremes(manifest: dict) -> dict:
    """row -> region -> metric -> the worst and the best scored frames, each from the most extreme one on."""
    found: dict = {}
    for row, regions in manifest.get("per_frame", {}).items():
        found[row] = {}
        for region, metrics in regions.items():
            found[row][region] = {}
            for metric, values in metrics.items():
                own = metrics.get(references_own(metric), [None] * len(values))
                ranks = [
                    (rank, number)
                    for number, value in enumerate(values)
                    if value is not None and (rank := badness(metric, value, own[number])) is not None
                ]
                ranks.sort()
                worst = [number for _, number in reversed(ranks[-EXTREMES:])]
                best = [number for _, number in ranks[:EXTREMES] if number not in worst]
                if ranks:
                    found[row][region][metric] = {"worst": worst, "best": best}
    return found


def _wanted(manifest: dict, extremes: dict) -> list[int]:
    """The methods' worst and best frames by all metrics: the most extreme ones first, whole frames before regions."""
    lists = [
        extremes[row.name][region][metric][end]
        for region in regions_of(extremes)
        for metric in metrics_of(extremes, region)
        for row in rows_of(manifest)
        for end in ("worst", "best")
        if row.kind == "method" and metric in extremes.get(row.name, {}).get(region, {})
    ]
    return [each[rank] for rank in range(EXTREMES) for each in lists if rank < len(each)]


def _film_note(film: Film | None, count: int) -> str:
    if film is None:
        return ""
    size = f"{film.width} × {film.height} pixels, coded with loss (H.264): to look at, not what was scored."
    if len(film.numbers) == count:
        return f"All {count} scored frames, {size}"
    return (
        f"{len(film.numbers)} of {count} scored frames, evenly chosen, and the worst and best of each metric; {size} "
        "The curves and the scores are of all frames."
    )


def _data(manifest: dict, extremes: dict, film: Film | None) -> dict:
    """What the page's script reads."""
    per_frame = manifest.get("per_frame", {})
    known = metrics_of(per_frame) + list(manifest.get("ablation", {}).get("metrics", {}))
    for point in manifest.get("ablation", {}).get("points", []):
        known += point["scores"]
    measures = {metric: measure(metric) for metric in dict.fromkeys(known)}
    return {
        "rows": [
            {"name": row.name, "label": row.label + f" {MARK}" * row.marked, "kind": row.kind}
            for row in rows_of(manifest)
            if row.name in per_frame or (film and row.name in film.tiles)
        ],
        "regions": [[region, REGIONS.get(region, region)] for region in regions_of(per_frame)],
        "metrics": metrics_of(per_frame),
        "measures": {
            metric: {"label": each.label, "unit": each.unit, "better": each.better, "advice": each.advice}
            for metric, each in measures.items()
        },
        "perFrame": _rounded(_curves(per_frame)),
        "seconds": _rounded(manifest.get("frames", {}).get("seconds", [])),
        "reference": manifest.get("frames", {}).get("reference", []),
        "methods": manifest.get("frames", {}).get("methods", {}),
        "extremes": extremes,
        "ablation": manifest.get("ablation"),
        "film": film
        and {
            "rate": float(film.frame_rate),
            "numbers": film.numbers.tolist(),
            "width": film.width,
            "height": film.height,
            "tiles": film.tiles,
        },
    }


def _curves(per_frame: dict) -> dict:
    """The same nesting; the reference's own numbers, which each row carries, stand in a row of their own."""
    found: dict = {REFERENCE: {}}
    for row, regions in per_frame.items():
        found[row] = {}
        for region, metrics in regions.items():
            own = {metric: metrics[key] for metric in metrics if (key := references_own(metric)) in metrics}
            found[REFERENCE].setdefault(region, {}).update(own)
            found[row][region] = {metric: values for metric, values in metrics.items() if metric not in COMPANIONS}
    return found


def _rounded(values):
    """The same nesting with `DIGITS` significant digits: a page of an hour's curves is half as large."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.{DIGITS}g}") if isinstance(values, float) else values
