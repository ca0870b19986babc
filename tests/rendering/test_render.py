"""`render` from folders to folder."""

import json
import shutil
import warnings
from pathlib import Path

import av
import jax
import numpy as np
import pytest
from factories import file_size_limit, make_avatar, make_base, make_capture
from safetensors.numpy import load_file, save_file

from svp_jax.capture.capture import open_capture
from svp_jax.capture.conditions import outlines_of
from svp_jax.capture.images import labelled, read_png, read_pngs
from svp_jax.errors import UserError
from svp_jax.face.conditions import OUTLINES_WINDOW, outlines_condition
from svp_jax.face.labels import LABEL_INDEX, PALETTE
from svp_jax.manifest import read_manifest, sha256_file, sha256_folder, write_manifest
from svp_jax.rendering import render as render_module
from svp_jax.rendering.driver import of_capture
from svp_jax.rendering.fit import check_fit, stage_unets
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.rendering.writer import CAPTION_HEIGHT, COMMENT, LABEL
from svp_jax.weights import base as weights_base
from svp_jax.weights import folder as weights_folder
from svp_jax.weights.avatar import load_avatar
from svp_jax.weights.base import load_base
from svp_jax.weights.component import instantiate
from svp_jax.weights.folder import save_model

FAST = {"steps": 2, "frames": "all", "chunk": 3}


# Of all tests here, also where they render by themselves.
pytestmark = pytest.mark.usefixtures("quiet")


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


def frames_of(out: Path, numbers=(1, 2, 3)) -> np.ndarray:
    return read_pngs(out / "frames", numbers).astype(int)


def test_manifest(usual, avatar_folder, driver_folder):
    _, manifest, _ = usual
    assert manifest["frames"] == list(range(12))
    assert manifest["held"] == [0, 5, 6, 11]
    assert manifest["shot_starts"] == [1, 7, 9]
    assert manifest["frame_rate"] == "30000/1001"
    assert manifest["mark"] == COMMENT and "AI-generated" in COMMENT
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
    lossless = np.stack([read_png(out / "frames" / f"{frame:06d}.png") for frame in range(12)])
    # Untrained networks draw coloured noise, of which h264 keeps the means of blocks.
    blocks = [p.reshape(12, 8, 8, 8, 8, 3).mean(axis=(2, 4)) for p in (pictures, lossless)]
    np.testing.assert_allclose(*blocks, atol=12)
    assert np.abs(blocks[0] - blocks[1]).mean() < 2
    # Held: as near as coding leaves it. Rendered: different.
    steps = np.abs(np.diff(pictures.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert steps[[4, 5, 10]].max() < 0.3 * steps[[1, 2, 3, 6, 7, 8, 9]].min(), steps
    assert sorted(path.name for path in out.iterdir()) == [
        "avatar.mp4",
        "frames",
        "parsing",
        "render.json",
        "side_by_side.mp4",
    ]


def test_a_label_on_demand(run):
    out, _, pictures = run(frames="1:2", label=True)
    expected = labelled(read_png(out / "frames" / "000001.png"), LABEL)
    blocks = [p.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) for p in (pictures[0], expected)]
    np.testing.assert_allclose(*blocks, atol=12)


def test_parsing_maps_have_colours_of_the_avatars_labels_only(usual, avatar_folder):
    out, _, _ = usual
    names = sorted(path.name for path in (out / "parsing").iterdir())
    assert names == [f"{frame:06d}.png" for frame in (1, 2, 3, 4, 7, 8, 9, 10)]
    labels = read_manifest(avatar_folder, "avatar")["labels"]
    assert len(labels) == 2
    colors = {tuple(color) for name in names for color in read_png(out / "parsing" / name).reshape(-1, 3)}
    assert colors == {tuple(PALETTE[LABEL_INDEX[name]]) for name in labels}


def test_chunks_change_nothing(usual, run):
    out, other = usual[0], run(chunk=16)[0]
    # Another chunk is another program: rounding may move a grey level, and a pixel between two labels.
    for path in (out / "parsing").iterdir():
        assert (read_png(path) == read_png(other / "parsing" / path.name)).mean() > 0.999
    assert np.abs(frames_of(out, range(12)) - frames_of(other, range(12))).max() <= 1


def test_a_span_continues_no_earlier_frame_but_sees_its_window(driver_folder):
    driver = open_capture(driver_folder)
    for frames in ([1, 2, 3], [3, 4, 7], [8, 9, 10], [4]):
        expected = outlines_condition(driver.geometry(range(12)), driver.shot, OUTLINES_WINDOW)[frames]
        np.testing.assert_array_equal(outlines_of(driver, np.array(frames), OUTLINES_WINDOW), expected)


def test_one_compilation_for_all_settings(usual, run, traces):
    _, _, base = run(unet="base", prompt="somebody else", strength=0.5, seed=3)
    _, _, plain = run(current=1, previous=0, noise=1, tau=0)
    _, _, driven = run(maps="driver")
    assert not traces
    for pictures in (base, plain, driven):
        assert np.abs(pictures.astype(int) - usual[2]).mean() > 0.5


def test_given_weights_go_before_the_avatars(run):
    _, manifest, _ = run(previous=0.1, tau=1.0)
    assert manifest["temporal"] == {"current": 0.7, "previous": 0.1, "noise": 1.0, "tau": 1.0}


@pytest.mark.parametrize(
    "setting",
    [
        {"prompt": "somebody else"},
        {"strength": 0.5},
        {"seed": 3},
        {"eta": 1.0},
        {"noise_per_frame": True},
        {"unet": "base"},
        {"guidance": 3.0},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_each_setting_alone_reaches_the_pictures(usual, run, setting):
    out, manifest, _ = run(frames="1:4", **setting)
    assert np.abs(frames_of(out) - frames_of(usual[0])).mean() > 0.5
    for name, value in setting.items():
        assert manifest["settings"][name] == value
        assert name != "prompt" or manifest["prompt"] == value
    # Text, guidance, strength and the base's UNet are the second stage's alone.
    same = [read_png(usual[0] / "parsing" / p.name) == read_png(p) for p in (out / "parsing").iterdir()]
    assert np.all(same) == (not setting.keys() & {"seed", "eta", "noise_per_frame"})


def test_guidance_leads_from_the_negative_prompt_to_the_prompt(usual, run):
    out, _, _ = run(frames="1:4", guidance=1.001, negative_prompt="somebody else")
    negative, _, _ = run(frames="1:4", prompt="somebody else")
    near = np.abs(frames_of(out) - frames_of(usual[0])).mean()
    assert near < 0.1 * np.abs(frames_of(negative) - frames_of(usual[0])).mean()
    # From a text to itself there is no way to go.
    out, _, _ = run(frames="1:4", guidance=3.0, negative_prompt="a person")
    assert np.abs(frames_of(out) - frames_of(usual[0])).max() <= 1
    further, _, _ = run(frames="1:4", guidance=3.0, negative_prompt="somebody else")
    assert np.abs(frames_of(further) - frames_of(out)).mean() > 0.5


def test_drivers_own_maps(run, driver_folder):
    out, _, _ = run(maps="driver", frames="1:4")
    assert not (out / "parsing").exists()
    with av.open(str(out / "side_by_side.mp4")) as container:
        rows = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    panels = np.stack(rows)[:, CAPTION_HEIGHT:, 128:192].astype(int)
    own = open_capture(driver_folder).parsing(range(1, 4))
    # The disc of each frame's own map is where it should be, as near as coding leaves it.
    assert np.abs(panels - own).mean() < 6 < np.abs(panels - own[::-1]).mean()


def test_outputs_are_recorded_with_their_hashes(usual):
    out, manifest, _ = usual
    assert set(manifest["files"]) == {"avatar.mp4", "frames", "parsing", "side_by_side.mp4"}
    assert manifest["files"]["avatar.mp4"] == sha256_file(out / "avatar.mp4")
    assert manifest["files"]["parsing"] == sha256_folder(out / "parsing")


def test_a_base_that_has_moved_is_given(base_folder, driver_folder, tmp_path):
    there, here = shutil.copytree(base_folder, tmp_path / "there"), tmp_path / "here"
    avatar = make_avatar(tmp_path / "avatar", there)
    there.rename(here)
    with pytest.raises(UserError, match=r"needs its base, which lay in .*there; say with --base where it is"):
        render(avatar, driver_folder, tmp_path / "out", RenderOptions(**FAST))
    render(avatar, driver_folder, tmp_path / "out", RenderOptions(steps=2, frames="1:2", base=here))
    assert read_manifest(tmp_path / "out", "render")["base"]["path"] == str(here)


def test_morphing_by_text_asks_for_consent(run, capsys):
    run(frames="1:2", unet="base", prompt="somebody else")
    assert "have that person's consent" in capsys.readouterr().err
    run(frames="1:2", prompt="somebody else")
    assert "consent" not in capsys.readouterr().err


def test_a_range_of_steps_mixes_more(run):
    one, _, _ = run(tau=0.0)
    both, manifest, _ = run(tau=0.0, tau_end=1.0)
    assert manifest["temporal"]["tau_end"] == 1.0
    first, second = (read_pngs(folder / "parsing", [2, 3, 4]) for folder in (one, both))
    assert (first != second).any()


def test_the_steps_are_those_of_the_avatars_previews_where_not_given(run, usual):
    _, manifest, pictures = run(steps=None)
    assert manifest["settings"]["steps"] == FAST["steps"]
    np.testing.assert_array_equal(pictures, usual[2])


def test_only_the_networks_that_are_needed_are_opened(avatar_folder, monkeypatch):
    loaded = []

    def noted(component, *dtype):
        folder = component.path.parent
        loaded.append(f"{folder.parent.name}/{folder.name}")
        return instantiate(component, *dtype)

    for module in (weights_folder, weights_base):
        monkeypatch.setattr(module, "instantiate", noted)
    for settings, needed in (
        ({"stage": "outlines"}, ["outlines/controlnet", "outlines/unet"]),
        ({"maps": "driver"}, ["details/controlnet", "details/unet"]),
        ({"maps": "driver", "unet": "base"}, ["base/unet", "details/controlnet"]),
    ):
        loaded.clear()
        options = RenderOptions(**FAST, **settings)
        load_avatar(avatar_folder, stages=stage_unets(options))
        assert sorted(loaded) == sorted(["base/text_encoder", "base/vae", *needed])


class TestFit:
    """What the avatar was trained on against the driver, without rendering."""

    def check(self, manifest, driver_folder, **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            driver = of_capture(open_capture(driver_folder))
            check_fit(Path("avatar"), manifest, driver, RenderOptions(**FAST, **options))
        return [str(warning.message) for warning in caught]

    @pytest.fixture
    def manifest(self, avatar_folder):
        return read_manifest(avatar_folder, "avatar")

    def test_other_face_model(self, manifest, driver_folder):
        manifest["captures"][0]["face_model"] = "mediapipe"
        with pytest.raises(UserError, match=r"driver was made with the face model synthetic, avatar .* on mediapipe"):
            self.check(manifest, driver_folder)
        manifest["captures"][0]["face_model"] = "synthetic"
        assert self.check(manifest, driver_folder) == []

    def test_other_conditions(self, manifest, driver_folder):
        manifest["condition"]["details"]["order"] = ["parsing", "geometry"]
        with pytest.raises(UserError, match=r"trained on other conditions than this program draws.*train it"):
            self.check(manifest, driver_folder)

    def test_other_parser(self, manifest, driver_folder):
        manifest["captures"][0]["parser"] = "landmarks"
        (text,) = self.check(manifest, driver_folder, maps="driver")
        assert "of the parser synthetic, avatar was trained on those of landmarks" in text
        assert self.check(manifest, driver_folder) == []

    @pytest.mark.parametrize("part, warned", [("all", True), ("decoder", False), ("none", False)])
    def test_tuned_encoder_and_the_bases_unet(self, manifest, driver_folder, part, warned):
        manifest["config"] = {"vae": {"trainable": part}}
        assert self.check(manifest, driver_folder) == []
        texts = self.check(manifest, driver_folder, unet="base")
        assert [("its details stage runs with the base's UNet" in text) for text in texts] == [True] * warned


def test_outlines_alone(avatar_folder, driver_folder, usual, tmp_path):
    out = render(avatar_folder, driver_folder, tmp_path / "out", RenderOptions(**FAST, stage="outlines"))
    assert sorted(path.name for path in out.iterdir()) == ["parsing", "render.json", "side_by_side.mp4"]
    for path in (usual[0] / "parsing").iterdir():
        np.testing.assert_array_equal(read_png(path), read_png(out / "parsing" / path.name))


def test_locked_avatar_uses_the_bases_unet(base_folder, driver_folder, run, tmp_path):
    locked = make_avatar(tmp_path / "avatar", base_folder, locked=True)
    assert not (locked / "details" / "unet").exists()
    _, _, tuned = run(avatar=locked, maps="driver")
    _, _, base = run(avatar=locked, maps="driver", unet="base")
    np.testing.assert_array_equal(tuned, base)
    # A VAE of the avatar's own is used with its own UNet, and not with the base's.
    save_model(load_base(make_base(tmp_path / "other", seed=5)).vae, locked / "vae")
    body = {key: value for key, value in read_manifest(locked, "avatar").items() if key != "manifest_sha256"}
    write_manifest(locked, "avatar", body | {"vae_tuned": True})
    _, _, own = run(avatar=locked, maps="driver")
    assert not np.array_equal(own, tuned)
    _, _, still_base = run(avatar=locked, maps="driver", unet="base")
    np.testing.assert_array_equal(still_base, base)


def test_unets_between_the_bases_and_the_avatars(run):
    found = {
        unet: frames_of(run(maps="driver", frames="1:4", unet=unet)[0]) for unet in ("base", "0", "0.5", "1", "tuned")
    }
    np.testing.assert_array_equal(found["0"], found["base"])
    np.testing.assert_array_equal(found["1"], found["tuned"])
    for end in ("0", "1"):
        assert np.abs(found["0.5"] - found[end]).mean() > 0.5


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
        self.fails(avatar_folder, tmp_path / "nothing", tmp_path / "out", "nothing: no such driver")

    def test_taken_output(self, avatar_folder, driver_folder, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "mine").write_text("kept")
        with pytest.raises(UserError, match=r"--out .* exists; add --force"):
            render(avatar_folder, driver_folder, out, RenderOptions(**FAST))
        assert (out / "mine").read_text() == "kept"
        write_manifest(out, "render", {})  # one of before, which --force may replace
        render(avatar_folder, driver_folder, out, RenderOptions(**FAST, force=True))
        assert json.loads((out / "render.json").read_text())["kind"] == "render" and not (out / "mine").exists()

    def test_weights_that_diverged(self, avatar_folder, driver_folder, tmp_path):
        avatar = shutil.copytree(avatar_folder, tmp_path / "avatar")
        weights = avatar / "details" / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        # Finite, or they could not be loaded; what they make is not.
        tensors["conv_out.bias"] = tensors["conv_out.bias"] + np.float32(3e38)
        save_file(tensors, weights)
        message = "the details stage gives numbers that are not finite at frame 1 of the driver"
        self.fails(avatar, driver_folder, tmp_path / "out", message)

    def test_a_vae_that_overflows(self, base_folder, driver_folder, tmp_path):
        """Its latents are finite, its pictures would be black."""
        base = shutil.copytree(base_folder, tmp_path / "base")
        weights = base / "vae" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        for name in ("decoder.conv_norm_out.weight", "decoder.conv_out.weight"):
            tensors[name] = tensors[name] * np.float32(1e30)
        save_file(tensors, weights)
        avatar = make_avatar(tmp_path / "avatar", base)
        message = "the details stage gives numbers that are not finite at frame 1 of the driver"
        self.fails(avatar, driver_folder, tmp_path / "out", message, maps="driver")

    def test_range_that_ends_before_it_starts(self, avatar_folder, driver_folder, tmp_path):
        message = r"--tau-end 0\.2: allowed are 0\.5 \(--tau, else the avatar's\) to 1"
        self.fails(avatar_folder, driver_folder, tmp_path / "out", message, tau_end=0.2)

    @pytest.mark.parametrize("limit", [100, 3000])
    def test_full_disk(self, avatar_folder, driver_folder, tmp_path, limit):
        # The compilation cache is a file, too.
        jax.config.update("jax_enable_compilation_cache", False)
        try:
            with file_size_limit(limit):
                self.fails(avatar_folder, driver_folder, tmp_path / "out", r"cannot write .*File too large")
        finally:
            jax.config.update("jax_enable_compilation_cache", True)

    def test_interrupted(self, avatar_folder, driver_folder, tmp_path, monkeypatch):
        def full(*arguments):
            raise UserError("disk full")

        monkeypatch.setattr(render_module.RenderWriter, "write", full)
        self.fails(avatar_folder, driver_folder, tmp_path / "out", "disk full")
