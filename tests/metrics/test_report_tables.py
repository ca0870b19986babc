"""The report's tables, read back cell by cell."""

import re

import pytest
import report_factory

from svp_jax.metrics.report import latex, markdown
from svp_jax.metrics.report.measures import badness, decimals, shown
from svp_jax.metrics.report.tables import differences, score_tables


def row(text: str, start: str, divider: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.lstrip("| ").startswith(start))
    return [cell.strip() for cell in re.split(rf"(?<!\\){re.escape(divider)}", line.removesuffix(r"\\").strip("|"))]


def test_markdown_marks_the_best_method_and_never_a_baseline():
    text = markdown(report_factory.manifest())
    heads = row(text, "PSNR", "|")
    psnr = heads.index("PSNR, dB ↑")
    assert row(text, "ours", "|")[psnr] == "**30.22**"
    assert row(text, "theirs", "|")[psnr] == "29.22"
    # The ceiling is better, and not the best.
    assert row(text, "VAE round trip", "|")[psnr] == "32.10"
    assert "VAE round trip (ceiling)" in text
    assert "mean training frame (baseline)" in text
    assert row(text, "mean training frame", "|")[heads.index("FID ↓")] == "–"
    assert row(text, "ours", "|")[heads.index("KID ↓")] == "**0.01000 ± 0.00200**"


def test_another_protocol_is_marked_and_competes_with_nobody():
    made = report_factory.manifest()
    odd = report_factory.ODD_NAME
    made["scores"][odd]["full"]["psnr"] = 99.0
    text = markdown(made)
    assert "**99" not in text
    assert r"\<img src=x onerror=alert(1)\> †" in text
    assert "† its pictures come from a video file" in text
    made["methods"][odd]["protocol_sha256"] = made["protocol_sha256"]
    text = markdown(made)
    assert "**99.00**" in text
    assert "†" not in text


def test_one_method_alone_is_not_the_best():
    made = report_factory.manifest()
    made["methods"] = {"ours": made["methods"]["ours"]}
    made["scores"] = {name: made["scores"][name] for name in ("ours", "nearest_frame")}
    assert "**" not in markdown(made)


def test_flicker_is_best_where_it_is_the_references_own():
    made = report_factory.manifest()
    for name, value in (("ours", 0.009), ("theirs", 0.002)):
        made["scores"][name]["full"] |= {"flicker": value, "flicker_reference": 0.01}
    table = score_tables(made)[0]
    best = [cells[table.metrics.index("flicker")].best for cells in table.cells]
    assert best == [True, False, False, False, False, False]
    # The reference's own number is one for all: at the head, not in a column.
    assert table.directions[table.metrics.index("flicker")] == "→ reference 0.010000"
    assert "flicker_reference" not in table.metrics
    assert "| flicker → reference 0.010000 |" in markdown(made)


def test_equal_pictures_have_an_infinite_psnr():
    made = report_factory.manifest()
    made["scores"]["ours"]["full"] |= {"psnr": None, "psnr_infinite": 48}
    assert row(markdown(made), "ours", "|")[1] == "∞"
    assert "psnr infinite" not in markdown(made)


def test_differences_say_on_which_side_of_zero_they_lie():
    verdicts = {(each.metric, each.region, each.b): each.verdict for each in differences(report_factory.manifest())}
    assert verdicts["psnr", "full", "theirs"] == "0 lies outside: ours is better"
    assert verdicts["lpips_alex", "face", "theirs"] == "0 lies outside: ours is better"
    assert verdicts["smoothness", "full", "theirs"].startswith("0 lies inside")
    assert verdicts["fid", "full", "theirs"] == "not defined"
    assert verdicts["psnr", "full", f"{report_factory.ODD_NAME} †"] == "0 lies outside; † not comparable"
    worse = {"metric": "lpips_alex", "region": "full", "a": "a", "b": "b", "difference": 1.0, "low": 0.5, "high": 2.0}
    assert differences({"differences": [worse]})[0].verdict == "0 lies outside: b is better"


def test_left_out_is_listed_with_its_reason():
    text = markdown(report_factory.manifest())
    assert "- identity: no network is named; give one with --identity NETWORK" in text
    assert r"- FVD: \<b\>no weights\</b\>" in text
    assert "- ours: 2 frames not scored: no face" in text
    made = report_factory.manifest()
    made["left_out"] = dict.fromkeys(("fid", "kid", "kid_error"), "no weights") | {"nearest_frame": "no avatar"}
    text = markdown(made)
    assert "- FID, KID: no weights" in text and text.count("no weights") == 1
    assert "- nearest training frame: no avatar" in text


@pytest.mark.parametrize("name", ["a|b", "a\nb", "*a*", "[a](http://b)", "`a`", "a_b_c", "\\"])
def test_odd_names_stay_in_their_cell_of_markdown(name):
    made = report_factory.manifest()
    made["scores"][name] = made["scores"].pop("ours")
    made["methods"][name] = made["methods"].pop("ours")
    table = markdown(made).split("\n\n")[1].splitlines()
    assert len(table) == 8
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table} == {len(score_tables(made)[0].metrics) + 2}


def test_latex_is_plain_and_escaped():
    made = report_factory.manifest()
    name = "100% & $x_1$ #{\\a}^~<b>"
    made["scores"][name] = made["scores"].pop("ours")
    made["methods"][name] = made["methods"].pop("ours")
    text = latex(made)
    escaped = r"100\% \& \$x\_1\$ \#\{\textbackslash{}a\}\textasciicircum{}\textasciitilde{}\textless{}b\textgreater{}"
    assert escaped in text
    assert r"\textbf{30.22}" in text
    assert r"PSNR, dB $\uparrow$" in text
    assert text.count(r"\begin{tabular}{lrrrrr}") == 1
    assert text.count(r"\end{tabular}") == 2
    assert "rule" not in text
    assert r"$^\dagger$ its pictures come from a video file" in text
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) in (3, 5)


def test_numbers_show_four_digits_of_the_smallest():
    assert decimals([30.2, 8.123]) == 3
    assert decimals([0.0, 0.5]) == 4
    assert decimals([]) == decimals([0.0]) == 0
    assert shown(-0.5, 2) == "−0.50"
    assert shown(1e-9, 6) == "1.0e-09"
    assert shown(0.0, 2) == "0.00"


def test_directions():
    assert badness("psnr", 3.0, None) < badness("psnr", 2.0, None)
    assert badness("mse", 3.0, None) > badness("mse", 2.0, None)
    assert badness("flicker", 3.0, None) is None
    assert badness("flicker", 3.0, 2.5) == 0.5
    assert badness("of_somebody_else", 1.0, None) is None


@pytest.mark.parametrize(
    ("other", "best", "text"),
    [
        ({"psnr": 30.0, "psnr_infinite": 0, "mse": 0.001}, [True, False], "30.00"),
        # Of its mean equal pictures are left out.
        ({"psnr": 20.0, "psnr_infinite": 47, "mse": 0.0002}, [True, False], "20.00 (47 ∞)"),
    ],
)
def test_equal_pictures_are_the_best(other, best, text):
    scores = {"a": {"full": {"psnr": None, "psnr_infinite": 48, "mse": 0.0}}, "b": {"full": other}}
    methods = {name: {"protocol_sha256": "0"} for name in scores}
    (table,) = score_tables({"methods": methods, "scores": scores})
    assert table.metrics[0] == "psnr"
    assert [row[0].best for row in table.cells] == best and [row[0].text for row in table.cells] == ["∞", text]
