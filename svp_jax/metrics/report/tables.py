"""A report's scores and differences as tables: for Markdown, for LaTeX, and as plain cells for the page."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from svp_jax.metrics.report.measures import (
    COMPANIONS,
    REGIONS,
    ROWS,
    Measure,
    Row,
    badness,
    decimals,
    measure,
    metrics_of,
    references_own,
    regions_of,
    rows_of,
    shown,
)

MARK = "†"
MARK_NOTE = (
    "its pictures come from a video file and the first method's do not, or the other way round: not comparable with "
    "it, and left out of the choice of the best; give every method as a video file"
)
ABSENT = "–"
MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$#])")
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{character: "\\" + character for character in "{}$&#_%"},
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "∞": r"$\infty$",
    "†": r"$^\dagger$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
}


@dataclass(frozen=True)
class Cell:
    text: str
    best: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """The scores in one region: `cells[row][column]` belongs to `rows[row]` and `metrics[column]`.

    `directions`: of each column which numbers are better, with the reference's own where they compare with it.
    """

    region: str
    metrics: list[str]
    directions: list[str]
    rows: list[Row]
    cells: list[list[Cell]]

    @property
    def title(self) -> str:
        return REGIONS.get(self.region, self.region)


@dataclass(frozen=True)
class Difference:
    """The mean of a - b over frames in words, with its 95 % interval."""

    metric: str
    region: str
    a: str
    b: str
    value: str
    interval: str
    verdict: str


def score_tables(manifest: dict) -> list[ScoreTable]:
    """One table for each region. The best method of a column is marked where two or more methods compete.

    Baselines and ceilings are never the best, nor are methods scored under another protocol than the first.
    """
    scores, tables = manifest.get("scores", {}), []
    for region in regions_of(scores):
        rows = [row for row in rows_of(manifest) if region in scores[row.name]]
        metrics = metrics_of(scores, region)
        values = [scores[row.name][region] for row in rows]
        directions = [_direction(metric, values) for metric in metrics]
        columns = [_column(metric, rows, values) for metric in metrics]
        cells = [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in rows]
        tables.append(ScoreTable(region, metrics, directions, rows, cells))
    return tables


def _direction(metric: str, values: list[dict]) -> str:
    own = next((each[key] for each in values if each.get(key := references_own(metric)) is not None), None)
    arrow = measure(metric).arrow
    return arrow if own is None else f"{arrow} {shown(own, _digits(metric, values))}"


def _digits(metric: str, values: list[dict]) -> int:
    """Of a column's numbers, the reference's own among them."""
    names = (metric, references_own(metric))
    return decimals([each[name] for each in values for name in names if each.get(name) is not None])


def _column(metric: str, rows: list[Row], values: list[dict]) -> list[Cell]:
    digits = _digits(metric, values)
    ranks = {}
    for number, (row, each) in enumerate(zip(rows, values, strict=True)):
        if row.kind != "method" or row.marked:
            continue
        if any(other.get(f"{metric}_infinite") for other in values):
            # Means leave equal pictures out, as if they were worth nothing; their errors count.
            if each.get("mse") is not None:
                ranks[number] = each["mse"]
        elif each.get(metric) is not None:
            rank = badness(metric, each[metric], each.get(references_own(metric)))
            if rank is not None:
                ranks[number] = rank
    best = {number for number in ranks if len(ranks) > 1 and ranks[number] == min(ranks.values())}
    return [Cell(_cell(metric, each, digits), number in best) for number, each in enumerate(values)]


def _cell(metric: str, values: dict, digits: int) -> str:
    if values.get(metric) is None:
        return "∞" if values.get(f"{metric}_infinite") else ABSENT
    error, infinite = values.get(f"{metric}_error"), values.get(f"{metric}_infinite")
    text = shown(values[metric], digits) + ("" if error is None else f" ± {shown(error, digits)}")
    return f"{text} ({infinite} ∞)" if infinite else text


def differences(manifest: dict) -> list[Difference]:
    """The report's differences between methods, in words."""
    rows = {row.name: row for row in rows_of(manifest)}
    found = []
    for each in manifest.get("differences", []):
        values = [each[key] for key in ("difference", "low", "high")]
        pair = [rows.get(each[key], Row(each[key], each[key], "method", False)) for key in ("a", "b")]
        a, b = (row.label + f" {MARK}" * row.marked for row in pair)
        if any(value is None for value in values):
            found.append(Difference(each["metric"], each["region"], a, b, ABSENT, ABSENT, "not defined"))
            continue
        digits = decimals(values)
        value, low, high = (shown(number, digits) for number in values)
        verdict = _verdict(measure(each["metric"]), *values, a, b)
        if pair[0].marked or pair[1].marked:
            verdict = f"{verdict.partition(':')[0]}; {MARK} not comparable"
        found.append(Difference(each["metric"], each["region"], a, b, value, f"{low} to {high}", verdict))
    return found


def _verdict(kind: Measure, difference: float, low: float, high: float, a: str, b: str) -> str:
    if low <= 0 <= high:
        return "0 lies inside: they cannot be told apart"
    if kind.better not in ("higher", "lower"):
        return "0 lies outside"
    return f"0 lies outside: {a if (difference > 0) == (kind.better == 'higher') else b} is better"


def left_out(manifest: dict) -> list[tuple[str, str]]:
    """What the report does not hold, and why: (metrics or rows, reason), each reason once; then frames, by method."""
    names: dict[str, list[str]] = {}
    for name, reason in manifest.get("left_out", {}).items():
        if name not in COMPANIONS:
            names.setdefault(reason, []).append(ROWS[name][0] if name in ROWS else measure(name).label)
    reasons = [(", ".join(each), reason) for reason, each in names.items()]
    for name, method in manifest.get("methods", {}).items():
        for reason, count in method.get("frames_left_out", {}).items():
            reasons.append((name, f"{count} frame{'' if count == 1 else 's'} not scored: {reason}"))
    return reasons


def markdown(manifest: dict) -> str:
    """The tables of a report as Markdown (pipe tables): scores by region, differences, what is left out."""
    parts = []
    for table in score_tables(manifest):
        parts += [f"### Scores, {_md(table.title)}", _pipes(*_texts(table, _md, lambda text: f"**{text}**"))]
    if any(row.marked for row in rows_of(manifest)):
        parts.append(f"{MARK} {MARK_NOTE}.")
    pairs = differences(manifest)
    if pairs:
        rows = [
            (
                measure(each.metric).label,
                REGIONS.get(each.region, each.region),
                f"{each.a} − {each.b}",
                each.value,
                each.interval,
                each.verdict,
            )
            for each in pairs
        ]
        heads = ["metric", "region", "difference of", "mean", "95 % interval", ""]
        cells = [[_md(cell) for cell in row] for row in rows]
        parts += ["### Differences", _pipes(heads, cells, texts=(1, 2, 5))]
    reasons = left_out(manifest)
    if reasons:
        parts += ["### Left out", "\n".join(f"- {_md(name)}: {_md(reason)}" for name, reason in reasons)]
    return "\n\n".join(parts) + "\n"


def latex(manifest: dict) -> str:
    """The scores of a report as LaTeX: one plain `tabular` for each region, which needs no package."""
    parts = []
    for table in score_tables(manifest):
        heads, rows = _texts(table, _tex, lambda text: rf"\textbf{{{text}}}")
        lines = [
            f"% {' '.join(table.title.split())}",
            rf"\begin{{tabular}}{{l{'r' * len(table.metrics)}}}",
            r"\hline",
            " & ".join(heads) + r" \\",
            r"\hline",
        ]
        for number, (row, cells) in enumerate(zip(table.rows, rows, strict=True)):
            if number and row.kind != "method" and table.rows[number - 1].kind == "method":
                lines.append(r"\hline")
            lines.append(" & ".join(cells) + r" \\")
        parts.append("\n".join([*lines, r"\hline", r"\end{tabular}"]))
    if any(row.marked for row in rows_of(manifest)):
        parts.append(rf"{_tex(MARK)} {_tex(MARK_NOTE)}.")
    return "\n\n".join(parts) + "\n"


def _texts(table: ScoreTable, escape: Callable, bold: Callable) -> tuple[list[str], list[list[str]]]:
    heads = [""]
    for metric, direction in zip(table.metrics, table.directions, strict=True):
        kind = measure(metric)
        heads.append(escape(f"{kind.label}{kind.unit and f', {kind.unit}'} {direction}".strip()))
    rows = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        label = row.label if row.kind == "method" else f"{row.label} ({row.kind})"
        texts = [bold(escape(cell.text)) if cell.best else escape(cell.text) for cell in cells]
        rows.append([escape(label + (f" {MARK}" if row.marked else "")), *texts])
    return heads, rows


def _pipes(heads: list[str], rows: list[list[str]], texts: tuple[int, ...] = ()) -> str:
    """A pipe table whose columns are numbers but for the first one and `texts`."""
    rule = ["---" if column in (0, *texts) else "---:" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rule, *rows])


def _md(text: str) -> str:
    """`text` as it is read in Markdown: on one line, nothing in it a mark-up."""
    return MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _tex(text: str) -> str:
    """`text` as it is read in LaTeX: on one line, nothing in it a command."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in " ".join(str(text).split()))
