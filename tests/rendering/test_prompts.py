"""Texts that go over into each other: the file that says them, their features over time, and a render."""

import json

import numpy as np
import pytest

from svp_jax.capture.images import read_pngs
from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.prompts import Text, Timeline, read_text
from svp_jax.rendering.render import render


@pytest.fixture
def read(tmp_path):
    """What is read of a timeline of this content."""

    def once(content: str | bytes) -> Text:
        path = tmp_path / "texts.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_text(RenderOptions(prompt_timeline=path), "the avatar's own")

    return once


@pytest.mark.parametrize(
    ("content", "times", "prompts"),
    [
        ("seconds,prompt\n0,a person\n", [0.0], ["a person"]),
        ("seconds,prompt\n0,a\n3,b\n5.5,c", [0.0, 3.0, 5.5], ["a", "b", "c"]),
        # Commas in quotes, spaces, empty lines, none at 0, an empty prompt, other line ends.
        ('seconds, prompt\r\n\r\n1e1, "a robot, ""chrome"""\r\n12,\r\n', [10.0, 12.0], ['a robot, "chrome"', ""]),
        ("seconds,prompt\n0,Käthe – 女\n", [0.0], ["Käthe – 女"]),
        # As Excel writes it: with a mark in front.
        ("\ufeffseconds,prompt\n0,a person\n", [0.0], ["a person"]),
    ],
)
def test_a_timeline(read, content, times, prompts):
    assert read(content) == Text(times, prompts)


def test_without_a_timeline_there_is_one_text():
    assert read_text(RenderOptions(), "the avatar's own") == Text([0.0], ["the avatar's own"])
    assert read_text(RenderOptions(prompt="another"), "the avatar's own") == Text([0.0], ["another"])
    assert read_text(RenderOptions(prompt=""), "the avatar's own") == Text([0.0], [""])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seconds,prompt\n0,\xff\n", r"not a \.csv in UTF-8 \(.*0xff"),
        ("", "the first line must be seconds,prompt$"),
        ("time,prompt\n0,a\n", "the first line must be seconds,prompt$"),
        ("0,a person\n", "the first line must be seconds,prompt$"),
        ("seconds;prompt\n0;a\n", "the first line must be seconds,prompt$"),
        ("seconds,prompt\n", "holds no prompt; write lines such as 0,a person$"),
        ("seconds,prompt\n\n\n", "holds no prompt; write lines such as 0,a person$"),
        (
            "seconds,prompt\n0,a\n1,a robot, chrome\n",
            r"line 3: has 3 fields, expected seconds,prompt \(a prompt with commas in quotes\)$",
        ),
        ("seconds,prompt\n\n0\n", "line 3: has 1 fields, expected seconds,prompt"),
        ("seconds,prompt\n0,a\nsoon,b\n", "line 3: 'soon' is no time; allowed are seconds, 0 or more$"),
        ("seconds,prompt\n-1,a\n", "line 2: '-1' is no time; allowed are seconds, 0 or more$"),
        ("seconds,prompt\nnan,a\n", "line 2: 'nan' is no time"),
        ("seconds,prompt\n0,a\ninf,b\n", "line 3: 'inf' is no time"),
        ("seconds,prompt\n0,a\n2,b\n\n1.5,c\n", r"line 5: 1\.5 does not come after 2; put the lines in order of time$"),
        ("seconds,prompt\n3,a\n3.0,b\n", r"line 3: 3\.0 does not come after 3; put the lines in order of time$"),
    ],
)
def test_what_cannot_be_read_is_named(read, content, message):
    with pytest.raises(UserError, match=rf"^--prompt-timeline .*texts\.csv.*{message}"):
        read(content)


def test_a_file_that_is_not_there(tmp_path):
    for path, problem in ((tmp_path / "absent.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=rf"^--prompt-timeline {path}: cannot read \({problem}\)$"):
            read_text(RenderOptions(prompt_timeline=path), "")


def test_features_go_over_into_each_other_in_proportion():
    first, second, third = features = np.random.default_rng(0).standard_normal((3, 5, 4), np.float32)
    timeline = Timeline(np.array([1.0, 2.0, 4.0]), features)
    found = timeline.at(np.array([0.0, 1.0, 1.25, 2.0, 3.0, 3.5, 4.0, 100.0]))
    assert found.dtype == np.float32 and found.shape == (8, 5, 4)
    # At the moments themselves, before and after exactly; between them to rounding.
    for place, expected in ((0, first), (1, first), (3, second), (6, third), (7, third)):
        np.testing.assert_array_equal(found[place], expected)
    np.testing.assert_allclose(found[2], 0.75 * first + 0.25 * second, atol=1e-6)
    np.testing.assert_allclose(found[4], 0.5 * second + 0.5 * third, atol=1e-6)
    np.testing.assert_allclose(found[5], 0.25 * second + 0.75 * third, atol=1e-6)
    assert timeline.at(np.empty(0)).shape == (0, 5, 4)


def test_one_text_is_that_of_all_times():
    features = np.ones((1, 5, 4), np.float32)
    np.testing.assert_array_equal(
        Timeline(np.array([3.0]), features).at(np.array([0.0, 3.0, 9.0])), features.repeat(3, 0)
    )


@pytest.mark.usefixtures("quiet")
def test_a_render_begins_with_the_first_text_and_ends_with_the_last(avatar_folder, driver_folder, tmp_path):
    """Frames by themselves: none is mixed into the next."""
    frames = (2, 3, 4)
    timeline = tmp_path / "texts.csv"
    # The last frame is at 2 / 29.97 = 0.0667 s of the video, which begins with the first one.
    timeline.write_text("seconds,prompt\n0,a person\n0.06,somebody else\n")

    def pictures(name, **settings):
        alone = {"current": 1.0, "previous": 0.0, "noise": 1.0, "maps": "driver"}
        options = RenderOptions(frames="2:5", steps=2, chunk=3, **alone, **settings)
        return read_pngs(render(avatar_folder, driver_folder, tmp_path / name, options) / "frames", frames).astype(int)

    found = pictures("timeline", prompt_timeline=timeline)
    first, last = pictures("first", prompt="a person"), pictures("last", prompt="somebody else")
    assert np.abs(first - last).mean(axis=(1, 2, 3)).min() > 0.5
    np.testing.assert_array_equal(found[0], first[0])
    np.testing.assert_array_equal(found[2], last[2])
    # About halfway.
    to_first, to_last, apart = (
        np.abs(a - b).mean() for a, b in ((found[1], first[1]), (found[1], last[1]), (first[1], last[1]))
    )
    assert max(to_first, to_last) < 0.9 * apart

    expected = {"times": [0.0, 0.06], "prompts": ["a person", "somebody else"]}
    assert read_manifest(tmp_path / "timeline", "render")["timeline"] == expected
    assert json.loads((tmp_path / "first" / "render.json").read_text())["timeline"] is None
