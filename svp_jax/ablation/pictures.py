"""What an ablation looks like: a heat map for each metric, and the front of smoothness against distance."""

import itertools
import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from svp_jax.metrics.report.measures import measure

# Which axes lie across and down; each combination of the others is a picture of its own.
FIRST = ("previous", "current", "tau", "noise", "strength", "steps")
COLOURS = "Blues"  # Darker is higher, as in the source's figure.
BEST = "#c0392b"
CELL = (0.85, 0.5)  # Inches.
DOTS = 130  # Per inch.


def write_heat_map(path: Path, axes: dict[str, list[float]], points: list[dict], metric: str) -> None:
    """One cell for each point, darker where the metric is higher, with its value; the front is framed, the best red.

    Args:
        axes, points: as in the report.
    """
    varied = sorted((name for name in axes if len(axes[name]) > 1), key=FIRST.index) or list(axes)[:1]
    across, down, *others = [*varied, None][: max(2, len(varied))]
    columns, rows = axes[across], axes[down] if down else [None]
    panels = list(itertools.product(*(axes[name] for name in others)))
    wide = len(axes[others[-1]]) if others else 1
    high = len(panels) // wide
    width = wide * (CELL[0] * len(columns) + 0.9) + 1.1
    height = high * (CELL[1] * len(rows) + 0.85) + 0.9
    figure = Figure(figsize=(max(width, 4.5), height), layout="constrained")
    values = [point["scores"][metric] for point in points if point["scores"][metric] is not None]
    colours = ScalarMappable(Normalize(min(values, default=0), max(values, default=1)), COLOURS)
    digits = _digits(values)
    plots = figure.subplots(high, wide, squeeze=False).ravel()
    for plot, panel in zip(plots, panels, strict=True):
        shown = dict(zip(others, panel, strict=True))
        plot.set_title(", ".join(f"{name} {value:g}" for name, value in shown.items()), fontsize=9)
        for point in points:
            settings = point["settings"]
            if all(settings[name] == value for name, value in shown.items()):
                # Larger values of the axis that goes up are further up.
                place = columns.index(settings[across]), rows.index(settings[down]) if down else 0
                _draw_cell(plot, place, point, point["scores"][metric], colours, digits)
        plot.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5), xlabel=across, ylabel=down or "")
        plot.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        plot.set_yticks(range(len(rows)), [f"{value:g}" for value in rows] if down else [])
        plot.tick_params(length=0, labelsize=8)
        plot.spines[:].set_visible(False)
    better = measure(metric).better
    title = [f"{metric}: darker is higher, {better} is better", "framed: on the front, red: best"]
    figure.suptitle("\n".join([*title, _others(points, varied)]), fontsize=9)
    _save(figure, path)


def _draw_cell(
    plot: Axes, place: tuple[int, int], point: dict, value: float | None, colours: ScalarMappable, digits: int
) -> None:
    across, down = place
    shade = (0.9, 0.9, 0.9, 1.0) if value is None else colours.to_rgba(value)
    plot.add_patch(_square(place, 0.98, facecolor=shade))
    ink = "white" if np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.55 else "black"
    if point["best"]:
        plot.add_patch(_square(place, 0.88, fill=False, edgecolor=BEST, linewidth=3))
    elif point["on_front"]:
        plot.add_patch(_square(place, 0.9, fill=False, edgecolor=ink, linewidth=1.2))
    text = "-" if value is None else f"{value:.{digits}f}"
    plot.text(across, down, text, ha="center", va="center", fontsize=8, color=ink)


def _others(points: list[dict], varied: list[str]) -> str:
    """The settings that are no axis of a picture: what they are in all points, or what they follow from."""
    parts = []
    for name in points[0]["settings"]:
        values = {point["settings"][name] for point in points}
        if name not in varied:
            parts.append(f"{name} {values.pop():g}" if len(values) == 1 else f"{name} = 1 - previous")
    return ", ".join(parts)


def _square(place: tuple[int, int], size: float, **style) -> Rectangle:
    return Rectangle((place[0] - size / 2, place[1] - size / 2), size, size, **style)


def _digits(values: list[float]) -> int:
    """Digits behind the point that tell most values apart: three that count in the range of `values`."""
    spread = max(values, default=1) - min(values, default=0)
    return min(max(2 - math.floor(math.log10(spread)), 1), 6) if spread > 0 else 4


def write_front(path: Path, axes: dict[str, list[float]], points: list[dict], names: list[str]) -> None:
    """The points by the two metrics of the front; those on it joined and labelled with their settings.

    Points far off would press the front into a corner: they are counted in the title.

    Args:
        names: the metrics across and up.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    plot = figure.subplots()
    varied = [name for name in axes if len(axes[name]) > 1] or list(axes)
    places = np.array([[point["scores"][name] for name in names] for point in points])
    on_front = np.array([point["on_front"] for point in points])
    order = np.flatnonzero(on_front)[np.argsort(places[on_front, 0], kind="stable")]
    plot.scatter(*places.T, s=18, color="#9db4c8", label="beaten by another")
    plot.plot(*places[order].T, "o-", color="#1f4e79", markersize=5, linewidth=1, label="on the front")
    (best,) = (number for number, point in enumerate(points) if point["best"])
    plot.plot(*places[best], "*", color=BEST, markersize=15, label="best")
    low, high = places[on_front].min(0), places[on_front].max(0)
    far = 0
    if (high > low).all():
        low, high = low - 0.6 * (high - low), high + 0.6 * (high - low)
        plot.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        far = int(((places < low) | (places > high)).any(1).sum())
    # Of equal points, whose labels would lie on each other, the first.
    _, first = np.unique(places, axis=0, return_index=True)
    for count, number in enumerate(number for number in order if number in first):
        label = ", ".join(f"{points[number]['settings'][name]:g}" for name in varied)
        right = places[number, 0] > (low[0] + high[0]) / 2
        # Above and below in turn, so that neighbours have room.
        place = dict(xytext=(-7 if right else 7, -12 if count % 2 else 6), ha="right" if right else "left")
        plot.annotate(label, places[number], textcoords="offset points", fontsize=7, **place)
    for name, side in zip(names, ("x", "y"), strict=True):
        better = measure(name).better
        plot.set(**{f"{side}label": f"{name} ({better} is better)"})
    title = f"labels: {', '.join(varied)}" + (f"; {far} points lie further off" if far else "")
    plot.set_title(f"{title}\n{_others(points, varied)}", fontsize=9)
    plot.grid(color="#e6e6e6")
    plot.set_axisbelow(True)
    plot.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DOTS, facecolor="white")
