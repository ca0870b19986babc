"""Several videos in one run: each as it would be alone, in a folder of its own, with an overview of all."""

import av
import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.images import read_png, read_pngs
from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import PROGRESS, RUN, read_manifest
from svp_jax.rendering import render as render_module
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.rendering.sweep import variants

SETTINGS = {"steps": 2, "frames": "all", "chunk": 3}
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def run(avatar_folder, driver_folder, tmp_path):
    def once(name, **changes):
        return render(avatar_folder, driver_folder, tmp_path / name, RenderOptions(**{**SETTINGS, **changes}))

    return once


def frames_of(folder):
    return read_pngs(folder / "frames", read_manifest(folder, "render")["frames"]).astype(int)


@pytest.mark.parametrize(
    ("sweep", "values"),
    [
        ("strength=0.2:1.4:7", [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]),
        ("strength=1:0:2", [1.0, 0.0]),
        ("strength=0.3|2", [0.3, 2.0]),
    ],
)
def test_strengths(sweep, values):
    found = variants(RenderOptions(sweep=sweep))
    assert [each.strength for each in found.values()] == values
    assert list(found) == [f"strength_{value:g}" for value in values]
    assert all(each.sweep is None for each in found.values())


def test_prompts():
    found = variants(RenderOptions(sweep="prompt=a man, old | a statue"))
    assert {name: each.prompt for name, each in found.items()} == {"prompt_1": "a man, old", "prompt_2": "a statue"}
    assert variants(RenderOptions()) == {"": RenderOptions()}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("tau=0:1:3", r"--sweep tau=0:1:3: allowed are strength=FROM:TO:COUNT"),
        ("strength", r"allowed are strength=FROM:TO:COUNT"),
        ("strength=0:1", r"no values; allowed are FROM:TO:COUNT with 2 or more"),
        ("strength=0:1:1", r"no values"),
        ("strength=a|b", r"no values"),
        ("strength=0:inf:3", r"no values; allowed are FROM:TO:COUNT"),
        ("strength=0.2:nan:7", r"no values"),
        ("strength=inf|1", r"--strength inf: allowed are 0 or more"),
        ("strength=1|1", r"values are alike to six digits; give each once"),
        ("strength=1|1.00000001", r"values are alike to six digits"),
        ("strength=-1|1", r"--strength -1\.0: allowed are 0 or more"),
    ],
)
def test_sweeps_that_cannot_be_read(run, sweep, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run("out", sweep=sweep)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_as_each_alone(run, traces):
    out = run("sweep", sweep="strength=0.2|1")
    # One program for each stage.
    assert len(traces) <= 2
    assert read_manifest(out, "sweep")["videos"] == ["strength_0.2", "strength_1"]
    assert inspect(out) == []
    alone = {name: frames_of(run(f"alone_{name}", strength=value)) for name, value in (("0.2", 0.2), ("1", 1.0))}
    for name, expected in alone.items():
        # Rounding of another batch may move a value over the edge of a grey level.
        assert np.abs(frames_of(out / f"strength_{name}") - expected).max() <= 1
    assert np.abs(alone["0.2"] - alone["1"]).max() > 10
    assert read_png(out / "sheet.png").shape[0] > 2 * 64
    manifest = read_manifest(out, "sweep")
    assert manifest["files"].keys() == {"sheet.png", "grid.mp4"}
    assert [video["strength"] for video in manifest["run"]["videos"]] == [0.2, 1.0]
    assert not (out / PROGRESS).exists() and not (out / RUN).exists()
    with av.open(str(out / "grid.mp4")) as video:
        assert video.streams.video[0].frames == 12 and video.streams.video[0].width == 2 * 64


def test_texts_in_one_run(run):
    out = run("sweep", maps="driver", sweep="prompt=a person|somebody else")
    for number, prompt in enumerate(("a person", "somebody else"), start=1):
        assert read_manifest(out / f"prompt_{number}", "render")["prompt"] == prompt
        expected = frames_of(run(f"alone_{number}", maps="driver", prompt=prompt))
        assert np.abs(frames_of(out / f"prompt_{number}") - expected).max() <= 1


@pytest.mark.parametrize("count", [5, 12])
def test_several_drivers(run, tmp_path, count):
    other = make_capture(tmp_path / "other" / "driver", count)
    out = run("both", also=(other,), motion="absolute")
    names = sorted(read_manifest(out, "sweep")["videos"])
    assert names == ["driver_1_driver", "driver_2_driver"]
    assert len(read_manifest(out / names[1], "render")["frames"]) == count
    np.testing.assert_allclose(frames_of(out / names[0]), frames_of(run("alone", motion="absolute")), atol=1)
    assert (out / "sheet.png").exists()
    # The same frames of different drivers show nothing beside each other.
    assert not (out / "grid.mp4").exists()


def test_an_interrupted_sweep_goes_on(run, monkeypatch, tmp_path):
    settings = {"sweep": "strength=0.2|1"}
    whole = run("whole", **settings)
    written = []
    original = render_module.RenderWriter.write

    def write(self, *arguments):
        # In the middle of a chunk: the first video has its pictures, the second has not.
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(1)
        original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(render_module.RenderWriter, "write", write)
        run("out", **settings)
    assert (tmp_path / "out.partial" / PROGRESS).exists()
    out = run("out", **settings)
    for name in read_manifest(whole, "sweep")["videos"]:
        assert read_manifest(out / name, "render")["files"] == read_manifest(whole / name, "render")["files"]
    assert (out / "sheet.png").read_bytes() == (whole / "sheet.png").read_bytes()
