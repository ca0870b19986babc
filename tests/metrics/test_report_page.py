"""The report's page in a real browser: the player, the curves, and that it asks nobody for anything."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
import report_factory
from chromium import chromium, find_chromium

from svp_jax.errors import UserError
from svp_jax.metrics.report import write_page
from svp_jax.metrics.report.film import TILE_FRAMES, choose_frames, make_film

HEADING = f"ours, theirs, {report_factory.ODD_NAME}"
SHOWN = "+document.getElementById('player').dataset.shown"
# A copy of `canvas` to read: reading the page's own would make the browser complain.
PEN = """(copy => (copy.drawImage(canvas, 0, 0), copy))(
    new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true}))"""
# The frame's number as the stripes at a canvas' top say it.
STRIPES = """(id => {
  const canvas = document.getElementById(id);
  const pen = PEN;
  let number = 0;
  for (let digit = 0; digit < DIGITS; digit++) {
    const x = Math.floor((digit + 0.5) * canvas.width / DIGITS);
    if (pen.getImageData(x, 2, 1, 1).data[0] > 128) number += 1 << digit;
  }
  return number;
})""".replace("DIGITS", str(report_factory.STRIPES)).replace("PEN", PEN)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_page(folder, HEADING, report_factory.manifest(ablation=True), report_factory.pictures())


@pytest.fixture(scope="module")
def running():
    executable = find_chromium()
    if executable is None:
        pytest.skip("no chromium here (apt-get install chromium): the page is not opened in a browser")
    with chromium(executable) as browser:
        yield browser


@pytest.fixture
def browser(running, page):
    """The page, opened anew in a desktop window, its first frame on the screen; nothing may go wrong in the test."""
    running.prefers("light")
    running.open(page)
    running.until(f"{SHOWN} === 0")
    yield running
    assert running.problems == []
    assert [each for each in running.requests if not each.startswith((page.as_uri(), "data:", "blob:"))] == []


def cursor_x(browser) -> float:
    return float(browser.run("document.getElementById('cursor').getAttribute('x1')"))


def at_frame(browser, number: int) -> bool:
    """Whether player, pictures, slider and cursor are all at the same frame."""
    browser.until(f"{SHOWN} === {number}")
    pictures = [browser.run(f"{STRIPES}('{canvas}')") for canvas in ("reference", "result")]
    at = browser.run("+document.getElementById('position').value")
    wanted = browser.run(f"(58 + (document.getElementById('plot').clientWidth - 68) * {number} / 47)")
    return pictures == [number, number] and at == number and abs(cursor_x(browser) - wanted) < 0.01


def test_arrow_keys_step_by_exact_frames(browser):
    assert at_frame(browser, 0)
    for key, shift, expected in (
        ("ArrowRight", False, 1),
        ("ArrowRight", True, 11),
        ("ArrowLeft", False, 10),
        ("End", False, 47),
    ):
        browser.press(key, shift)
        assert at_frame(browser, expected)
    browser.press("ArrowRight")
    browser.press("Home")
    assert at_frame(browser, 0)


def test_seeking_is_exact_at_every_frame(browser):
    for number in np.random.default_rng(0).permutation(report_factory.COUNT)[:24].tolist():
        browser.run(
            f"(s => {{ s.value = {number}; s.dispatchEvent(new Event('input')) }})(document.getElementById('position'))"
        )
        assert at_frame(browser, number)


def test_playing_moves_the_cursor_and_stops_at_a_frame_that_is_shown(browser):
    before = cursor_x(browser)
    browser.press(" ")
    browser.until("document.getElementById('play').getAttribute('aria-label') === 'pause'")
    browser.until(f"{SHOWN} > 5")
    assert browser.run("document.getElementById('film').currentTime") > 0
    browser.press(" ")
    browser.until("document.getElementById('film').paused")
    assert cursor_x(browser) > before
    stopped = browser.run(SHOWN)
    browser.press("ArrowRight")
    # The picture on the screen may be told a moment after the pause: then the step starts from there.
    after = browser.run("+document.getElementById('position').value")
    assert stopped < after <= stopped + 2
    assert at_frame(browser, after)


def test_plays_to_the_last_frame_and_from_the_start_again(browser):
    browser.press("End")
    browser.press("ArrowLeft")
    assert at_frame(browser, 46)
    browser.press(" ")
    browser.until("document.getElementById('film').ended")
    assert at_frame(browser, 47)
    browser.press(" ")
    browser.until(f"{SHOWN} < 40")


def test_clicking_and_dragging_in_the_plot_seeks(browser):
    box = browser.box("#plot svg")
    inner = box["width"] - 68

    def spot(number):
        return box["x"] + 58 + inner * number / 47, box["y"] + 100

    browser.click(*spot(20))
    assert at_frame(browser, 20)
    browser.mouse("mousePressed", *spot(30))
    for number in (33, 36, 40):
        browser.mouse("mouseMoved", *spot(number))
    browser.mouse("mouseReleased", *spot(40))
    assert at_frame(browser, 40)
    browser.mouse("mouseMoved", *spot(5))
    assert at_frame(browser, 40)


def choose(browser, name: str, value: str) -> None:
    select = f"document.getElementById({json.dumps(name)})"
    browser.run(f"{select}.value = {json.dumps(value)}; {select}.dispatchEvent(new Event('change'))")


def curve(browser, row: str) -> str:
    return browser.run(
        f"[...document.querySelectorAll('.curve')].find(c => c.dataset.row === {json.dumps(row)})?.getAttribute('d')"
    )


def test_metric_and_region_change_the_plot_and_the_tables(browser):
    full = curve(browser, "ours")
    assert full.count("M") == 1
    choose(browser, "metric", "lpips_alex")
    assert curve(browser, "ours") != full
    assert "LPIPS (alex) (lower is better)" in browser.run("document.querySelector('#plot svg').textContent")
    choose(browser, "metric", "psnr")
    assert curve(browser, "ours") == full
    visible = "[...document.querySelectorAll('#scores .region')].filter(r => r.offsetParent).map(r => r.dataset.region)"
    assert browser.run(visible) == ["full"]
    choose(browser, "region", "face")
    assert curve(browser, "ours").count("M") == 2, "no gap where the face is not there"
    assert browser.run(visible) == ["face"]
    assert browser.run("document.getElementById('scores-region').value") == "face"


def test_the_references_own_flicker_is_a_curve_and_no_metric(running, tmp_path):
    made = report_factory.manifest()
    for number, regions in enumerate(made["per_frame"].values()):
        # The first row does not move at all.
        flicker = [None, *[0.01 * number] * (report_factory.COUNT - 1)]
        own = [None, *[0.02] * (report_factory.COUNT - 1)]
        regions["full"] |= {"flicker": flicker, "flicker_reference": own}
    running.open(write_page(tmp_path, HEADING, made, {}))
    running.until("document.querySelector('#plot svg') !== null")
    rows = "[...document.querySelectorAll('#plot path')].map(each => each.dataset.row)"
    assert "reference" not in running.run(rows)
    assert "reference" not in running.run("document.getElementById('metric').textContent")
    choose(running, "metric", "flicker")
    assert "reference" in running.run(rows)
    # A row that is the same all the time makes the plot no taller.
    assert "−" not in running.run("[...document.querySelectorAll('#plot text')].map(each => each.textContent).join()")
    assert running.problems == []


def test_a_row_can_be_taken_out_of_the_plot(browser):
    assert curve(browser, "mean_frame") is not None
    browser.run(
        "[...document.querySelectorAll('#legend button')].find(b => /mean training/.test(b.textContent)).click()"
    )
    assert curve(browser, "mean_frame") is None
    assert curve(browser, "ours") is not None


def test_result_and_difference_are_those_of_the_chosen_row(browser):
    middle = """(id => { const canvas = document.getElementById(id); return [...PEN.getImageData(
        0, Math.floor(canvas.height / 2), canvas.width, 1).data].filter((_, k) => k % 4 < 3).reduce((a, b) => a + b, 0)
        })""".replace("PEN", PEN)
    sharp = browser.run(f"{middle}('difference')")
    choose(browser, "row", "mean_frame")
    assert browser.run("document.getElementById('result-name').textContent") == "mean training frame"
    assert browser.run(f"{middle}('difference')") > 2 * sharp, "a strong blur differs more than a slight one"


def test_worst_and_best_frames_are_clickable(browser):
    values = report_factory.per_frame()["ours"]["full"]["psnr"]
    order = np.argsort(values).tolist()
    browser.until("[...document.querySelectorAll('#extremes canvas')].every(canvas => canvas.dataset.drawn)")
    found = browser.run("[...document.querySelectorAll('#extremes button')].map(button => +button.dataset.number)")
    assert found == order[:3] + order[-1:-4:-1]
    browser.run("document.querySelectorAll('#extremes button')[1].click()")
    assert at_frame(browser, order[1])
    choose(browser, "metric", "lpips_alex")
    worst = np.argsort(report_factory.per_frame()["ours"]["full"]["lpips_alex"])[-1]
    assert browser.run("+document.querySelector('#extremes button').dataset.number") == worst


def test_heat_map_is_darker_where_higher_and_marks_the_best(browser):
    choose(browser, "heat-metric", "lpips_alex")
    cells = browser.run(
        "[...document.querySelectorAll('#heat-map td[title]')]"
        ".map(c => [c.title, c.textContent, c.style.background, c.className])"
    )
    light = [sum(map(int, ground[4:-1].split(","))) for _, _, ground, _ in cells]
    numbers = [float(title.rsplit(": ", 1)[1]) for title, *_ in cells]
    assert np.argmin(light) == np.argmax(numbers)
    assert np.argmax(light) == np.argmin(numbers)
    assert [n for n, cell in enumerate(cells) if "★" in cell[1]] == [int(np.argmin(numbers))]
    assert [title.split(": ")[0] for title, *_, name in cells if name] == ["w_n = 0.75, w_c = 0.7, tau = 0.5"]
    choose(browser, "heat-x", "tau")
    assert browser.run("document.querySelectorAll('#heat-map td[title]').length") == 6


def test_scatter_tells_the_settings_of_a_point(browser):
    assert browser.run("document.querySelectorAll('#scatter circle').length") == 24
    browser.run("document.querySelector('#scatter .chosen').dispatchEvent(new MouseEvent('click'))")
    assert "w_n = 0.75, w_c = 0.7, tau = 0.5" in browser.run("document.getElementById('front-note').textContent")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_body_never_scrolls_sideways(browser, width):
    browser.resize(width, 844, phone=width < 500)
    browser.until(f"innerWidth === {width}")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("Math.max(...[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll'))"
                       ".map(e => e.getBoundingClientRect().right))") <= width  # fmt: skip


@pytest.mark.parametrize("width", [390, 1280])
def test_names_of_rows_stay_words_beside_many_metrics(browser, width):
    browser.resize(width, 844, phone=width < 500)
    browser.until(f"innerWidth === {width}")
    widths = browser.run("[...document.querySelectorAll('.scores tbody th')].map(e => e.offsetWidth).filter(w => w)")
    assert widths and min(widths) >= 100


@pytest.mark.parametrize("width", [320, 1280])
def test_the_verdict_of_a_difference_is_in_sight(browser, width):
    browser.resize(width, 844, phone=width < 500)
    browser.until(f"innerWidth === {width}")
    cells = "[...document.querySelectorAll('.differences tr:not(.group) td:last-child')].filter(e => e.offsetWidth)"
    assert browser.run(f"{cells}.length") == 8
    assert browser.run(f"Math.max(...{cells}.map(e => e.getBoundingClientRect().right))") <= width


def contrast(first: list[int], second: list[int]) -> float:
    """The contrast of two colours as WCAG 2 defines it, 1 to 21."""
    shares = (np.array([first, second]) / 255).astype(float)
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    dark, bright = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (bright + 0.05) / (dark + 0.05)


def test_dark_mode_changes_colours_and_both_can_be_read(browser):
    def colours() -> dict:
        names = ["paper", "panel", "ink", "soft", "accent", "best", "best-ink", "trouble"] + [f"c{n}" for n in range(8)]
        style = "getComputedStyle(document.documentElement).getPropertyValue('--NAME').trim()"
        found = {name: browser.run(style.replace("NAME", name)) for name in names}
        return {name: [int(text[k : k + 2], 16) for k in (1, 3, 5)] for name, text in found.items()}

    light = colours()
    body = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.prefers("dark")
    dark = colours()
    assert browser.run("getComputedStyle(document.body).backgroundColor") != body
    for each in (light, dark):
        for ground in ("paper", "panel"):
            for ink in set(each) - {"paper", "panel", "best", "best-ink"}:
                assert contrast(each[ground], each[ink]) >= 4.5, (ground, ink)
        assert contrast(each["best"], each["best-ink"]) >= 4.5


def test_everything_that_can_be_used_has_a_name(browser):
    nameless = """[...document.querySelectorAll('button, select, input, svg[role], canvas[role], [role=region]')]
        .filter(each => !each.getAttribute('aria-label') && !each.labels?.length)
        .filter(each => each.tagName !== 'BUTTON' || !each.textContent.trim())
        .map(each => each.outerHTML.slice(0, 80))"""
    assert browser.run(nameless) == []


def test_names_are_text_and_the_policy_refuses_what_is_foreign(browser):
    assert browser.run("document.images.length") == 0
    assert report_factory.ODD_NAME in browser.run("document.querySelector('h1').textContent")
    assert report_factory.ODD_NAME in browser.run("document.getElementById('row').textContent")
    refused = """new Promise(done => {
        document.addEventListener('securitypolicyviolation', event => done(event.violatedDirective));
        const image = new Image();
        image.src = 'http://127.0.0.1:9/x.png';
    })"""
    assert browser.run(refused).startswith("img-src")
    browser.problems.clear()  # The refusal itself is one.
    browser.requests[:] = [each for each in browser.requests if "127.0.0.1" not in each]


def test_the_file_asks_nobody_and_escapes_names(page):
    text = page.read_text(encoding="utf-8")
    markup = text[: text.index('<script type="application/json"')]
    assert report_factory.ODD_NAME not in text
    assert "<b>no weights" not in text
    assert "http" not in markup.replace("http-equiv", "")
    assert "default-src 'none'" in markup


def test_a_report_without_pictures_or_curves_is_a_page_too(running, tmp_path):
    made = report_factory.manifest()
    running.open(write_page(tmp_path, HEADING, made, {}))
    running.until("document.querySelector('#plot svg') !== null")
    running.press("ArrowRight")
    assert "frame 101" in running.run("document.getElementById('readout').textContent")
    assert running.run("document.getElementById('pictures').hidden && document.getElementById('play').hidden")
    for key in ("per_frame", "frames", "differences", "left_out"):
        del made[key]
    running.open(write_page(tmp_path, HEADING, made, {}))
    assert running.run("document.querySelectorAll('section:not([hidden])').length") == 3  # scores, left out, protocol
    assert running.problems == []


def test_long_clips_show_some_frames_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("svp_jax.metrics.report.film.TILE_FRAMES", 13 * 24)
    made, asked = report_factory.manifest(), []
    pictures = report_factory.pictures()
    ours = pictures["ours"]
    pictures["ours"] = lambda numbers: (asked.append(numbers), ours(numbers))[1]
    text = write_page(tmp_path, HEADING, made, pictures).read_text(encoding="utf-8")
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    numbers = data["film"]["numbers"]
    assert len(asked) == 1
    assert asked[0].tolist() == numbers
    assert len(numbers) <= 24
    assert f"{len(numbers)} of 48 scored frames" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    worst = data["extremes"]["ours"]["full"]["psnr"]["worst"][0]
    assert worst in numbers
    # As long as all frames together.
    assert data["film"]["rate"] == pytest.approx(25 * len(numbers) / 48)


def test_a_film_of_some_frames_shows_the_scored_frame_that_it_says(running, tmp_path, monkeypatch):
    monkeypatch.setattr("svp_jax.metrics.report.film.TILE_FRAMES", 13 * 24)
    made = report_factory.manifest()
    made["reference"]["frame_rate"] = "30000/1001"
    running.open(write_page(tmp_path, HEADING, made, report_factory.pictures()))
    running.until(f"{SHOWN} === 0")
    numbers = running.run("data.film.numbers")
    for position in (1, 7, len(numbers) - 1, 12):
        running.run(f"document.getElementById('position').value = {position}")
        running.run("document.getElementById('position').dispatchEvent(new Event('input'))")
        running.until(f"{SHOWN} === {position}")
        assert running.run(f"{STRIPES}('reference')") == numbers[position]
        assert f"frame {100 + numbers[position]}," in running.run("document.getElementById('readout').textContent")
    assert running.problems == []


def test_choice_of_frames():
    assert choose_frames(100, 11, [5]).tolist() == list(range(100))
    chosen = choose_frames(12000, 11, [7, 7, 9001])
    assert len(chosen) <= TILE_FRAMES // 11
    assert (np.diff(chosen) > 0).all()
    assert {0, 7, 9001, 11999} <= set(chosen.tolist())
    assert np.diff(chosen).max() <= 2 * 12000 / len(chosen)
    many = choose_frames(12000, 11, list(range(6000)))
    assert len(many) <= TILE_FRAMES // 11
    assert (many > 6000).sum() > TILE_FRAMES / 11 / 5


def test_a_film_of_odd_and_large_pictures(tmp_path):
    def grey(level: int):
        return lambda numbers: (np.full((301, 601, 3), level, np.uint8) for _ in numbers)

    film = make_film({"reference": grey(100), "a": grey(110)}, 3, Fraction(25), [], tmp_path / "film.mp4")
    assert (film.height, film.width) == (128, 256)
    assert film.frame_rate == 25
    assert list(tmp_path.iterdir()) == [film.path]
    assert film.tiles == {
        "reference": {"picture": (0, 0)},
        "a": {"picture": (256, 0), "difference": (0, 128)},
    }


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="cannot write"):
        write_page(folder, HEADING, report_factory.manifest(), {})
