"""`render` from folders to folder."""

import json
import warnings

import av
import numpy as np
import pytest
from factories import make_avatar, make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_png
from svp_jax.errors import UserError
from svp_jax.face.conditions import OUTLINES_WINDOW, outlines_condition
from svp_jax.face.labels import PALETTE
from svp_jax.manifest import read_manifest
from svp_jax.rendering import render as render_module
from svp_jax.rendering import stages
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render, windows_of

FAST = {"steps": 2, "frames": "all", "chunk": 3}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* frames of .* have no face")
        yield


@pytest.fixture(scope="module")
def run(avatar_folder, driver_folder, tmp_path_factory):
    """options -> (render's folder, its manifest, its pictures uint8 [N, 64, 64, 3])."""

    def once(avatar=avatar_folder, driver=driver_folder, **options):
        out = tmp_path_factory.mktemp("render") / "out"
        assert render(avatar, driver, out, RenderOptions(**{**FAST, **options})) == out
        with av.open(str(out / "avatar.mp4")) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return out, read_manifest(out, "render"), np.stack(pictures)

    return once


@pytest.fixture(scope="module")
def usual(run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run()


def test_manifest(usual, avatar_folder, driver_folder):
    _, manifest, _ = usual
    assert manifest["frames"] == list(range(12))
    assert manifest["held"] == [0, 5, 6, 11]
    assert manifest["shot_starts"] == [1, 7, 9]
    assert manifest["frame_rate"] == "30000/1001"
    assert manifest["prompt"] == "a person" and manifest["settings"]["prompt"] is None
    assert manifest["temporal"] == {"current": 0.7, "previous": 0.3, "noise": 1.0, "tau": 0.5}
    assert manifest["avatar"] == str(avatar_folder) and manifest["driver"] == str(driver_folder)
    assert manifest["driver_sha256"] == read_manifest(driver_folder, "capture")["manifest_sha256"]
    assert {"load", "outlines", "details", "write"} <= manifest["seconds"].keys()
    assert all(seconds > 0 for seconds in manifest["seconds"].values())


def test_video_holds_one_picture_for_each_frame(usual):
    out, _, pictures = usual
    assert pictures.shape == (12, 64, 64, 3)
    assert pictures[0].max() < 10
    # Held: as near as coding leaves it. Rendered: different.
    steps = np.abs(np.diff(pictures.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert steps[[4, 5, 10]].max() < 0.3 * steps[[1, 2, 3, 6, 7, 8, 9]].min(), steps
    assert sorted(path.name for path in out.iterdir()) == [
        "avatar.mp4",
        "parsing",
        "render.json",
        "side_by_side.mp4",
    ]


def test_parsing_maps_have_palette_colours_only(usual):
    out, _, _ = usual
    names = sorted(path.name for path in (out / "parsing").iterdir())
    assert names == [f"{frame:06d}.png" for frame in (1, 2, 3, 4, 7, 8, 9, 10)]
    colors = {tuple(color) for name in names for color in read_png(out / "parsing" / name).reshape(-1, 3)}
    assert colors <= {tuple(color) for color in PALETTE} and len(colors) > 1


def test_chunks_change_nothing(usual, run):
    out, _, pictures = usual
    other, _, whole = run(chunk=16)
    for path in (out / "parsing").iterdir():
        assert (read_png(path) == read_png(other / "parsing" / path.name)).mean() > 0.999
    assert np.abs(pictures.astype(int) - whole).mean() < 0.1


def test_a_span_continues_no_earlier_frame_but_sees_its_window(driver_folder):
    driver = open_capture(driver_folder)
    for frames in ([1, 2, 3], [3, 4, 7], [8, 9, 10], [4]):
        expected = outlines_condition(driver.geometry(range(12)), driver.shot, OUTLINES_WINDOW)[frames]
        np.testing.assert_array_equal(windows_of(driver, np.array(frames), OUTLINES_WINDOW), expected)


def test_one_compilation_for_all_settings(usual, run, monkeypatch):
    traces = []
    original = stages.sample_sequence

    def counted(*arguments):
        traces.append(1)
        return original(*arguments)

    monkeypatch.setattr(stages, "sample_sequence", counted)
    _, _, base = run(unet="base", prompt="somebody else", strength=0.5, seed=3)
    _, _, plain = run(current=1, previous=0, noise=1, tau=0)
    _, _, driven = run(maps="driver")
    assert not traces
    for pictures in (base, plain, driven):
        assert np.abs(pictures.astype(int) - usual[2]).mean() > 0.5


def test_given_weights_go_before_the_avatars(run):
    _, manifest, _ = run(previous=0.1, tau=1.0)
    assert manifest["temporal"] == {"current": 0.7, "previous": 0.1, "noise": 1.0, "tau": 1.0}


def test_text_of_morphing_reaches_the_second_stage_alone(usual, run):
    out, manifest, _ = run(prompt="somebody else")
    assert manifest["prompt"] == "somebody else"
    for path in (usual[0] / "parsing").iterdir():
        np.testing.assert_array_equal(read_png(path), read_png(out / "parsing" / path.name))


def test_drivers_own_maps(run, tmp_path):
    out, _, _ = run(maps="driver", frames="1:4")
    assert not (out / "parsing").exists()


def test_outlines_alone(avatar_folder, driver_folder, usual, tmp_path):
    out = render(avatar_folder, driver_folder, tmp_path / "out", RenderOptions(**FAST, stage="outlines"))
    assert sorted(path.name for path in out.iterdir()) == ["parsing", "render.json", "side_by_side.mp4"]
    for path in (usual[0] / "parsing").iterdir():
        np.testing.assert_array_equal(read_png(path), read_png(out / "parsing" / path.name))


def test_locked_avatar_uses_the_bases_unet(base_folder, driver_folder, run, tmp_path):
    locked = make_avatar(tmp_path / "avatar", base_folder, locked=True)
    assert not (locked / "details" / "unet").exists()
    _, _, tuned = run(avatar=locked)
    _, _, base = run(avatar=locked, unet="base")
    np.testing.assert_array_equal(tuned, base)


def test_no_sound_no_sound(avatar_folder, run, tmp_path):
    out, _, _ = run(driver=make_capture(tmp_path / "capture", 3))
    with av.open(str(out / "avatar.mp4")) as container:
        assert not container.streams.audio and container.streams.video[0].frames == 3


class TestErrors:
    def fails(self, avatar, driver, out, message, **options):
        with pytest.raises(UserError, match=message):
            render(avatar, driver, out, RenderOptions(**{**FAST, **options}))
        assert not out.exists() and not out.with_name(out.name + ".partial").exists()

    def test_other_size(self, avatar_folder, tmp_path):
        driver = make_capture(tmp_path / "big", 2, size=128)
        message = r"big has 128 x 128 pixels, .*avatar was trained on 64 x 64; .* --size 64"
        self.fails(avatar_folder, driver, tmp_path / "out", message)

    def test_stage_not_trained(self, base_folder, driver_folder, tmp_path):
        details = make_avatar(tmp_path / "details", base_folder, stages=("details",))
        self.fails(details, driver_folder, tmp_path / "out", "no outlines stage; .* --maps driver")
        outlines = make_avatar(tmp_path / "outlines", base_folder, stages=("outlines",))
        self.fails(outlines, driver_folder, tmp_path / "out", "no details stage; .* --stage outlines")
        render(details, driver_folder, tmp_path / "with_maps", RenderOptions(**FAST, maps="driver"))

    def test_long_prompt(self, avatar_folder, driver_folder, tmp_path):
        self.fails(avatar_folder, driver_folder, tmp_path / "out", "has 100 tokens, allowed are 75", prompt="x" * 100)

    def test_frames_out_of_range(self, avatar_folder, driver_folder, tmp_path):
        self.fails(avatar_folder, driver_folder, tmp_path / "out", "--frames 3:13: .* frames 0:12", frames="3:13")

    def test_no_capture(self, avatar_folder, tmp_path):
        self.fails(avatar_folder, tmp_path / "nothing", tmp_path / "out", "not a finished capture")

    def test_taken_output(self, avatar_folder, driver_folder, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine").write_text("kept")
        with pytest.raises(UserError, match=r"--out .* exists; add --force"):
            render(avatar_folder, driver_folder, out, RenderOptions(**FAST))
        assert (out / "mine").read_text() == "kept"
        render(avatar_folder, driver_folder, out, RenderOptions(**FAST, force=True))
        assert json.loads((out / "render.json").read_text())["kind"] == "render" and not (out / "mine").exists()

    def test_interrupted(self, avatar_folder, driver_folder, tmp_path, monkeypatch):
        def full(*arguments):
            raise UserError("disk full")

        monkeypatch.setattr(render_module.RenderWriter, "write", full)
        self.fails(avatar_folder, driver_folder, tmp_path / "out", "disk full")
