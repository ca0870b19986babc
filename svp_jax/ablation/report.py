"""The report of an ablation: its points judged, as a table, and its best one written into the avatar."""

from importlib import metadata
from pathlib import Path

import numpy as np

from svp_jax.ablation.front import TOLERANCE, best_point, pareto_front
from svp_jax.ablation.grid import Point
from svp_jax.ablation.plan import TEMPORAL, Ablation
from svp_jax.ablation.scores import METRICS, PERCEPTUAL
from svp_jax.errors import UserError
from svp_jax.manifest import body_of, read_manifest, write_manifest
from svp_jax.metrics.protocol import DEFINITIONS
from svp_jax.metrics.report.measures import measure


def judged(points: list[Point], scores: list[dict[str, float | None]]) -> tuple[list[dict], list[str]]:
    """(the points as the report has them, the metrics of the front)."""
    front = ["smoothness", PERCEPTUAL if PERCEPTUAL in scores[0] else "ssim"]
    costs = np.array(
        [[1 - each[name] if measure(name).better == "higher" else each[name] for name in front] for each in scores]
    )
    on_front, best = pareto_front(costs), best_point(*costs.T)
    judged = [
        {"settings": point, "scores": each, "on_front": bool(on_front[number]), "best": number == best}
        for number, (point, each) in enumerate(zip(points, scores, strict=True))
    ]
    return judged, front


def nested(axes: dict[str, list[float]], points: list[dict]) -> dict[str, list]:
    """metric -> its scores as lists in lists, one level for each axis."""
    shape = [len(values) for values in axes.values()]
    return {
        name: np.array([point["scores"][name] for point in points], object).reshape(shape).tolist()
        for name in points[0]["scores"]
    }


def protocol(ablation: Ablation, front: list[str]) -> dict:
    plan = ablation.run.videos[0].plan
    distance = f"1 - {front[1]}" if measure(front[1]).better == "higher" else front[1]
    return {
        "pictures": "renders without loss, whole frames",
        "size": [ablation.reference.height, ablation.reference.width],
        "frames_scored": len(plan.indices),
        "frames": plan.indices.tolist(),
        "smoothness_pairs": int((~plan.starts).sum()),
        "metrics": {name: DEFINITIONS[name] for name in (*METRICS, *([PERCEPTUAL] if ablation.lpips else []))},
        "mean": "over the frames",
        "front": f"no other point has less smoothness and less {distance}",
        "best": f"least smoothness of the points whose {distance} is at most {TOLERANCE:.0%} above the least",
        "lpips": ablation.lpips and ablation.lpips.sha256,
        "versions": {name: metadata.version(name) for name in ("svp_jax", "numpy", "jax")},
    }


def write_best(avatar_folder: Path, report: dict) -> None:
    """Writes the best point's temporal weights into avatar.json; the other settings of an avatar are not there."""
    manifest = read_manifest(avatar_folder, "avatar")
    if manifest["manifest_sha256"] != report["run"]["avatar"]:
        raise UserError(
            f"{avatar_folder} was changed since the report was made; run svp ablate again into another --out"
        )
    best = best_settings(report)
    temporal = manifest["temporal"] | {name: best[name] for name in TEMPORAL}
    write_manifest(avatar_folder, "avatar", body_of(manifest) | {"temporal": temporal})
    print(f"wrote the weights {_shown({name: best[name] for name in TEMPORAL})} into {avatar_folder}")


def best_settings(report: dict) -> Point:
    """The best point's settings, of the manifest of a report."""
    return next(point["settings"] for point in report["ablation"]["points"] if point["best"])


def table(report: dict) -> str:
    """The points on the front and the best one as text, of the manifest of a report."""
    ablation = report["ablation"]
    first = {name: point for name, point in ablation["points"][0]["settings"].items()}
    varied = [name for name in first if any(each["settings"][name] != first[name] for each in ablation["points"])]
    metrics = list(ablation["points"][0]["scores"])
    widths = {name: max(10, len(name) + 2) for name in [*varied, *metrics]}
    lines = ["".join(f"{name:>{width}}" for name, width in widths.items())]
    for point in sorted(
        (point for point in ablation["points"] if point["on_front"]), key=lambda point: point["scores"]["smoothness"]
    ):
        cells = [f"{point['settings'][name]:>{widths[name]}g}" for name in varied]
        for name in metrics:
            value = point["scores"][name]
            cells.append(f"{'-' if value is None else f'{value:.5g}':>{widths[name]}}")
        lines.append("".join(cells) + ("  best" if point["best"] else ""))
    shown = sum(point["on_front"] for point in ablation["points"])
    lines.append(f"{shown} of {len(ablation['points'])} points: {report['protocol']['front']}")
    lines += [f"{name} is left out: {reason}" for name, reason in ablation["left_out"].items()]
    lines.append(f"best: {_shown(best_settings(report))} ({report['protocol']['best']})")
    return "\n".join(lines)


def _shown(settings: Point) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())
