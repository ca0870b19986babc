"""The parts of the page that need no script: sources, tables, what is left out, the protocol. All text is escaped."""

import html
import itertools

from svp_jax.metrics.report.measures import REGIONS, measure, regions_of, rows_of
from svp_jax.metrics.report.tables import (
    MARK,
    MARK_NOTE,
    Difference,
    differences,
    left_out,
    score_tables,
)

INTERVAL_WIDTH, INTERVAL_HEIGHT, INTERVAL_MARGIN = 140, 20, 8  # pixels
LONG = 60  # numbers in a list, from which on they are folded away


def text(value) -> str:
    return html.escape(str(value))


def sources_section(manifest: dict) -> str:
    """The reference, and what each method's pictures are."""
    items = []
    if "reference" in manifest:
        items.append(("reference", manifest["reference"], ""))
    for name, method in manifest.get("methods", {}).items():
        pairing = f"; paired {method['pairing']}" if method.get("pairing") else ""
        items.append((name, method.get("source", {}), pairing))
    lines = []
    for name, source, more in items:
        size = "{1} × {0} pixels".format(*source["size"]) if "size" in source else ""
        count = f"{source['frames']} frames" if "frames" in source else ""
        rate = f"{_rate(source['frame_rate'])} frames/s" if "frame_rate" in source else ""
        facts = ", ".join(each for each in (source.get("kind", ""), size, count, rate) if each)
        path = f"<code>{text(source['path'])}</code>" if "path" in source else ""
        lines.append(f"<div><dt>{text(name)}</dt><dd>{text(facts + more)}<br>{path}</dd></div>")
    return f'<dl class="sources">{"".join(lines)}</dl>' if lines else ""


def _rate(rate: str) -> str:
    numerator, _, denominator = str(rate).partition("/")
    return f"{float(numerator) / float(denominator or 1):g}"


def scores_section(manifest: dict) -> str:
    """One table for each region; the script shows the chosen one."""
    tables = score_tables(manifest)
    if not tables:
        return ""
    parts = []
    for table in tables:
        heads = "".join(
            f'<th scope="col">{text(kind.label)}<small>{text(f"{kind.unit} {direction}".strip())}</small></th>'
            for kind, direction in zip(map(measure, table.metrics), table.directions, strict=True)
        )
        lines = []
        for row, cells in zip(table.rows, table.cells, strict=True):
            mark = f'<abbr title="{MARK_NOTE}">{MARK}</abbr>' if row.marked else ""
            kind = f"<small>{row.kind}</small>" if row.kind != "method" else ""
            numbers = "".join(
                f'<td class="best"><strong>{text(cell.text)}</strong></td>'
                if cell.best
                else f"<td>{text(cell.text)}</td>"
                for cell in cells
            )
            lines.append(f'<tr class="{row.kind}"><th scope="row">{text(row.label)}{mark}{kind}</th>{numbers}</tr>')
        parts.append(
            f'<div class="region" data-region="{text(table.region)}"><h3>{text(table.title)}</h3>'
            f'<div class="scroll" tabindex="0" role="region" aria-label="scores, {text(table.title)}">'
            f'<table class="scores"><thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
            "</div></div>"
        )
    note = "↑ higher is better, ↓ lower is better"
    if any("reference" in direction for table in tables for direction in table.directions):
        note += ", → the nearer to the reference's own the better"
    if any(cell.best for table in tables for row in table.cells for cell in row):
        note += "; in bold the best method of a column (never a baseline or the ceiling)"
    notes = f"<p>{note}.</p>"
    if any(row.marked for row in rows_of(manifest)):
        notes += f"<p>{MARK} {MARK_NOTE}.</p>"
    choice = region_choice([table.region for table in tables], "scores-region")
    return f'<section id="scores"><h2>Scores</h2>{choice}{"".join(parts)}<div class="notes">{notes}</div></section>'


def region_choice(regions: list[str], name: str) -> str:
    """A choice of one of the regions, hidden where there is only one."""
    options = "".join(f'<option value="{text(each)}">{text(REGIONS.get(each, each))}</option>' for each in regions)
    hidden = " hidden" if len(regions) < 2 else ""
    return (
        f'<p class="choices script"{hidden}><label for="{name}">Region</label> '
        f'<select id="{name}" class="region-choice">{options}</select></p>'
    )


def differences_section(manifest: dict) -> str:
    """Differences between methods with their intervals, drawn against zero."""
    pairs = list(zip(differences(manifest), manifest.get("differences", []), strict=True))
    if not pairs:
        return ""
    parts = []
    regions = regions_of({"": {each.region: {} for each, _ in pairs}})
    for region in regions:
        lines = []
        chosen = [pair for pair in pairs if pair[0].region == region]
        for (a, b), group in itertools.groupby(chosen, key=lambda pair: (pair[0].a, pair[0].b)):
            lines.append(f'<tr class="group"><th scope="rowgroup" colspan="5">{text(a)} − {text(b)}</th></tr>')
            lines += [_difference(each, numbers) for each, numbers in group]
        parts.append(
            f'<div class="region" data-region="{text(region)}"><h3>{text(REGIONS.get(region, region))}</h3>'
            f'<div class="scroll" tabindex="0" role="region" aria-label="differences, {text(region)}"><table '
            'class="differences"><thead><tr><th scope="col">metric</th><th scope="col">mean difference</th>'
            '<th scope="col">95 % interval</th><th scope="col">against 0</th><th scope="col">verdict</th></tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div></div>"
        )
    notes = (
        "<p>95 % intervals by a bootstrap over blocks of neighbouring frames. Where nothing differs, one in twenty of "
    )
    notes += "them lies outside 0 by chance.</p>"
    return f'<section id="differences"><h2>Differences</h2>{"".join(parts)}<div class="notes">{notes}</div></section>'


def _difference(each: Difference, numbers: dict) -> str:
    kind = measure(each.metric)
    label = text(kind.label) + (f" <small>{text(kind.arrow)}</small>" if kind.arrow else "")
    outside = ' class="outside"' if each.verdict.startswith("0 lies outside") else ""
    return (
        f'<tr{outside}><th scope="row">{label}</th><td>{text(each.value)}</td><td>{text(each.interval)}</td>'
        f"<td>{_interval(numbers)}</td><td>{text(each.verdict)}</td></tr>"
    )


def _interval(numbers: dict) -> str:
    """The interval and its mean on a line through zero, each row to its own scale."""
    values = [numbers[key] for key in ("low", "difference", "high")]
    if None in values:
        return ""
    span = max(map(abs, values)) or 1.0
    middle, reach = INTERVAL_WIDTH / 2, INTERVAL_WIDTH / 2 - INTERVAL_MARGIN
    low, mean, high = (f"{middle + reach * value / span:.1f}" for value in values)
    y = INTERVAL_HEIGHT / 2
    return (
        f'<svg class="interval" width="{INTERVAL_WIDTH}" height="{INTERVAL_HEIGHT}" aria-hidden="true">'
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="{INTERVAL_HEIGHT}"/>'
        f'<line class="bar" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/><circle cx="{mean}" cy="{y}" r="4"/></svg>'
    )


def left_out_section(manifest: dict) -> str:
    reasons = left_out(manifest)
    if not reasons:
        return ""
    items = "".join(f"<div><dt>{text(name)}</dt><dd>{text(reason)}</dd></div>" for name, reason in reasons)
    return f'<section id="left-out"><h2>Left out</h2><dl class="facts">{items}</dl></section>'


def protocol_section(manifest: dict) -> str:
    """Every key of the protocol, and the hash by which protocols are compared."""
    protocol = dict(manifest.get("protocol", {}))
    hashes = {"protocol_sha256": manifest["protocol_sha256"]} if "protocol_sha256" in manifest else {}
    for name, method in manifest.get("methods", {}).items():
        if method.get("protocol_sha256", hashes.get("protocol_sha256")) != hashes.get("protocol_sha256"):
            hashes[f"protocol_sha256 of {name} {MARK}"] = method["protocol_sha256"]
    if not protocol and not hashes:
        return ""
    items = "".join(
        f"<div><dt>{text(str(key).replace('_', ' '))}</dt><dd>{_value(value)}</dd></div>"
        for key, value in (protocol | hashes).items()
    )
    return (
        '<section id="protocol"><h2>Protocol</h2><p>Numbers made under equal protocols (equal hashes) can be compared.'
        f'</p><dl class="facts">{items}</dl></section>'
    )


def _value(value) -> str:
    if isinstance(value, dict):
        items = "".join(f"<li>{text(key)}: {_value(each)}</li>" for key, each in value.items())
        return f"<ul>{items}</ul>" if items else "none"
    if isinstance(value, list):
        if all(isinstance(each, int) for each in value):
            listed = _ranges(value)
            if len(listed) > LONG:
                return f"<details><summary>{len(value)} numbers</summary>{text(', '.join(listed))}</details>"
            return text(", ".join(listed)) or "none"
        return f"<ul>{''.join(f'<li>{_value(each)}</li>' for each in value)}</ul>"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text(value)


def _ranges(numbers: list[int]) -> list[str]:
    """The same numbers, with runs of three or more that rise by one as "first to last"."""
    runs = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    listed = []
    for _, run in runs:
        run = [number for _, number in run]
        listed += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run]
    return listed
