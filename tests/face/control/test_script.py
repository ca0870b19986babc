import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.errors import UserError
from svp_jax.face.control.channels import apply
from svp_jax.face.control.pchip import held_curve
from svp_jax.face.control.script import parse_settings, read_script
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.parameters import neutral
from svp_jax.face.tracking import pose_angles

CSV = """time,channel,value
0,yaw,-20
1,smile,0.8

2,yaw,20
2.5,yaw,0
"""
BY_PAIRS = """
frame_rate: 30000/1001
seconds: 3
yaw: {0: -20, 2: 20, 2.5: 0}
smile: [[1, 0.8]]
"""
ONE_BY_ONE = """
- {time: 0, channel: yaw, value: -20}
- {time: 2, channel: yaw, value: 20}
- time: 2.5
  value: 0
  channel: yaw
- {time: 1, channel: smile, value: 0.8}
"""
MODEL = SimpleNamespace(
    name="mediapipe",
    channels=("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "mouthSmileRight"),
    limits=(0.0, 1.0),
)


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "moves.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def keys(script) -> dict:
    return {name: [(key.time, key.value) for key in keys] for name, keys in script.keys.items()}


@pytest.mark.parametrize(
    "text, name, rate, seconds",
    [
        (CSV, "a.csv", 25, 2.5),
        (CSV.replace("\n", "\r\n"), "b.CSV", 25, 2.5),
        ("\ufeff" + CSV, "c.csv", 25, 2.5),
        (BY_PAIRS, "d.yaml", Fraction(30000, 1001), 3),
        (ONE_BY_ONE, "e.yml", 25, 2.5),
        ("{yaw: [[0, -20], [2, '20'], [2.5, 0e0]], smile: {1: .8}}", "json.yaml", 25, 2.5),
    ],
)
def test_all_ways_to_write_a_script(write, text, name, rate, seconds):
    script = read_script(write(text, name))
    assert keys(script) == {"yaw": [(0, -20), (2, 20), (2.5, 0)], "smile": [(1, 0.8)]}
    assert script.frame_rate == rate and script.seconds == seconds
    script.check(MODEL)


def test_the_documented_scripts(write):
    text = (Path(__file__).resolve().parents[3] / "docs" / "control.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    table, mapping = (read_script(write(block, name)) for block, name in zip(blocks, ("a.csv", "b.yaml"), strict=True))
    assert keys(table)["blink"] == [(0.5, 0), (0.6, 1), (0.7, 0)] and table.keys.keys() == {"yaw", "blink", "jawOpen"}
    assert keys(mapping) == {"yaw": [(0, 0), (1, 15), (2, 0)], "smile": [(0, 0), (2, 0.8)]}
    assert mapping.frame_rate == 30 and mapping.seconds == 3
    for script in (table, mapping):
        script.check(MODEL)


@pytest.mark.parametrize(
    "seconds, rate, frames",
    [
        ("1.16", "25", 30),
        ("1.1599", "25", 29),
        ("0", "25", 1),
        ("1.001", "30000/1001", 31),
        ("19999.96", "25", 500_000),
    ],
)
def test_the_number_of_frames(write, seconds, rate, frames):
    assert read_script(write(f"frame_rate: {rate}\nyaw: {{{seconds}: 0}}")).frame_count() == frames


@pytest.mark.parametrize(
    "text, frames",
    [("seconds: 20000\nyaw: {0: 1}", 500_001), ("frame_rate: 240\nyaw: {86400: 1}", 20_736_001)],
)
def test_too_many_frames(write, text, frames):
    assert_refused(write(text), rf"are {frames} frames, allowed are 1 to 500000; shorten it or lower its frame_rate$")


def test_columns_in_another_order(write):
    assert keys(read_script(write("channel, value, time\nyaw, 5, 1\n", "a.csv"))) == {"yaw": [(1, 5)]}


def test_samples(write):
    script = read_script(write(CSV, "a.csv"))
    rate = Fraction(30000, 1001)
    sampled = script.sampled(rate, 90)
    assert sampled.keys() == {"yaw", "smile"}
    np.testing.assert_array_equal(sampled["smile"], np.full(90, 0.8))
    times = [float(frame / rate) for frame in range(90)]
    np.testing.assert_allclose(sampled["yaw"], held_curve([0, 2, 2.5], [-20, 20, 0], times), atol=1e-12)
    assert script.sampled(Fraction(25), 51)["yaw"][50] == 20 and script.sampled(Fraction(25), 0)["yaw"].shape == (0,)


def test_a_script_moves_a_face_from_rest(write):
    script = read_script(write(CSV, "a.csv"))
    rest, count = neutral(0, len(MODEL.channels)), 51
    moved = apply(script.sampled(script.frame_rate, count), rest.frames(np.zeros(count, int)), rest, MODEL)
    angles = pose_angles(np.asarray(rotation.matrix(moved.rotation)))
    np.testing.assert_allclose(angles[[0, 25, 50]], [[-20, 0, 0], [0, 0, 0], [20, 0, 0]], atol=1e-3)
    np.testing.assert_array_equal(moved.expression, np.float32([[0, 0, 0, 0.8, 0.8]] * count))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"moves\.csv has no keys; "),
        ("time,channel,value\n\n", r"has no keys; give at least one time, channel and value"),
        ("time;channel;value\n", r"line 1: the header is 'time;channel;value', allowed is time,channel,value"),
        ("0,yaw,1\n", r"line 1: the header is '0,yaw,1', allowed is"),
        ("time,channel,value\n0,yaw\n", r"line 2: has 2 values, needed are 3: time,channel,value"),
        ("time,channel,value\n\n0,yaw,0,5\n", r"line 3: has 4 values"),
        ("time,channel,value\n0,yaw,left\n", r"line 2: yaw's value must be a number, found 'left'"),
        ("time,channel,value\n0,yaw,nan\n", r"line 2: yaw's value is nan, allowed are finite numbers"),
        ("time,channel,value\ninf,yaw,1\n", r"line 2: time is inf, allowed are finite numbers"),
        ("time,channel,value\n-1,yaw,1\n", r"line 2: time is -1, allowed are 0 to 86400 seconds"),
        ("time,channel,value\n0,,1\n", r"line 2: '' is no name; names are like"),
        ('time,channel,value\n0,"ya\nw",1\n', r"line 3: 'ya\\nw' is no name"),
        ('time,channel,value\n0,"yaw,1\n', r"line 2: is not valid CSV \(unexpected end of data\)"),
        (
            "time,channel,value\n0,smile,1\n2,yaw,1\n1,smile,0\n1.25,yaw,1\n",
            r"line 5: yaw has a key at 1\.25 s after its key at 2 s; times of a channel must increase",
        ),
        ("time,channel,value\n1,yaw,1\n1,yaw,2\n", r"line 3: yaw has a key at 1 s after its key at 1 s"),
        (b"time,channel,value\n0,\xff,1\n", r"moves\.csv is not UTF-8 text; save it as UTF-8"),
    ],
)
def test_mistakes_in_csv(write, text, message):
    assert_refused(write(text, "moves.csv"), message)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"moves\.yaml has no keys"),
        ("# nothing\n", r"has no keys"),
        ("[]", r"has no keys"),
        ("seconds: 2\nyaw: {}\n", r"has no keys"),
        ("a: [1, 2\nb", r"moves\.yaml is not valid YAML: .* line 2"),
        ("[" * 5000, r"lists within each other"),
        ("yaw\n", r"line 1: a script is `channel: \{time: value, ...\}` lines"),
        ("frame_rat: 30\nyaw: {0: 1}", r"line 1: frame_rat is neither .*; did you mean frame_rate\?"),
        ("\nyaw: 5", r"line 2: yaw is neither a channel, .*, nor a setting; known: frame_rate, seconds"),
        ("yaw: {0: 1}\nyaw: {1: 1}", r"line 2: yaw is given twice"),
        ("'ya w': {0: 1}", r"line 1: 'ya w' is no name"),
        ("? [a]\n: {0: 1}", r"line 1: a name must be a single word or number"),
        ("yaw:\n  0: [1, 2]", r"line 2: value must be a single word or number, found a list or mapping"),
        ("yaw:\n- [0, 1]\n- [1, 2, 3]", r"line 3: yaw has a key that is no pair; a channel is \{time: value"),
        ("yaw:\n- [0, 1]\n- 5", r"line 3: yaw has a key that is no pair"),
        ("yaw:\n  1: 0\n  0.5: 1", r"line 3: yaw has a key at 0\.5 s after its key at 1 s"),
        ("yaw: {1:30: 0}", r"line 1: time must be a number, found '1:30'"),
        ("yaw: {0: .nan}", r"line 1: yaw's value must be a number, found '\.nan'"),
        ("yaw: {0: true}", r"line 1: yaw's value must be a number, found 'true'"),
        ("yaw: {0: }", r"line 1: yaw's value must be a number, found ''"),
        ("- {time: 0, chanel: yaw, value: 1}", r"line 1: unknown key chanel; did you mean channel\?"),
        ("- {time: 0, channel: yaw}", r"line 1: value is missing; a key has time, channel, value"),
        ("- {time: 0, channel: [yaw], value: 1}", r"line 1: channel must be a single word"),
        ("- {time: 0, channel: yaw, value: 1}\n- 5", r"line 2: a key in a list is \{time: ..., channel"),
        ("yaw: {0: 1}\nframe_rate: fast", r"line 2: frame_rate is 'fast', allowed are numbers such as 25 or 30000"),
        ("yaw: {0: 1}\nframe_rate: 1/0", r"line 2: frame_rate is '1/0', allowed are numbers"),
        ("yaw: {0: 1}\nframe_rate: 0", r"line 2: frame_rate is 0, allowed are 1 to 240"),
        ("yaw: {0: 1}\nseconds: [1]", r"line 2: seconds must be a single word or number"),
        (
            "yaw: {0: 1, 2: 0}\nseconds: 1.5",
            r"line 2: seconds is 1\.5, allowed are 2 to 86400 \(the last key is at 2 s",
        ),
    ],
)
def test_mistakes_in_yaml(write, text, message):
    assert_refused(write(text), message)


def assert_refused(path, message):
    with pytest.raises(UserError, match=message) as raised:
        read_script(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_files_of_no_kind(write, tmp_path):
    assert_refused(write("", "moves.txt"), r"has the ending '\.txt', allowed are \.csv, \.yaml, \.yml$")
    assert_refused(tmp_path / "none.csv", r"none\.csv: No such file or directory; give a script")


@given(st.text(max_size=60), st.sampled_from(["csv", "yaml"]))
def test_any_text_is_a_script_or_refused_in_one_line(tmp_path_factory, text, ending):
    path = tmp_path_factory.getbasetemp() / f"any.{ending}"
    path.write_text(("time,channel,value\n" if ending == "csv" else "") + text, encoding="utf-8")
    try:
        read_script(path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text, message",
    [
        ("yaw: {0: 1}\nsmil: {0: 1}", r"moves\.yaml, line 2: unknown name 'smil'; did you mean smile\?$"),
        ("yaw:\n  0: 1\n  1: 120", r"moves\.yaml, line 3: yaw is 120, allowed are -90 to 90$"),
        ("blink: {0: 1}\neyeBlinkLeft: {0: 1}", r"moves\.yaml, line 2: blink and eyeBlinkLeft set the same part"),
    ],
)
def test_what_the_face_model_does_not_have(write, text, message):
    script = read_script(write(text))
    with pytest.raises(UserError, match=message):
        script.check(MODEL)


def test_settings():
    assert parse_settings(["jawOpen=0.5", " yaw = -1e1 "]) == {"jawOpen": 0.5, "yaw": -10}
    assert parse_settings([]) == {}


@pytest.mark.parametrize(
    "settings, message",
    [
        (["jawOpen"], "^--set jawOpen: allowed is NAME=NUMBER, such as jawOpen=0.5$"),
        (["=1"], "^--set =1: allowed is NAME=NUMBER"),
        (["yaw="], "^--set: yaw must be a number, found ''$"),
        (["yaw=1=2"], "^--set: yaw must be a number, found '1=2'$"),
        (["yaw=inf"], "^--set: yaw is inf, allowed are finite numbers$"),
        (["yaw=1", "yaw=2"], "^--set: yaw is given twice, 1 and 2; give it once$"),
    ],
)
def test_mistakes_in_settings(settings, message):
    with pytest.raises(UserError, match=message):
        parse_settings(settings)
