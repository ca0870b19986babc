"""Ablations of a tiny avatar, from the grid to the report and the avatar's new weights."""

import itertools
import shutil

import numpy as np
import pytest
from factories import make_capture

from svp_jax.ablation import ablate as ablate_module
from svp_jax.ablation import plan
from svp_jax.ablation.ablate import ablate
from svp_jax.ablation.options import AblationOptions
from svp_jax.ablation.report import table
from svp_jax.capture.images import read_png, read_pngs
from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import body_of, read_manifest, write_manifest
from svp_jax.metrics import evaluate
from svp_jax.rendering import render as render_module
from svp_jax.rendering import stage_sampler
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render

pytestmark = pytest.mark.filterwarnings("ignore:.*have no face and are not rendered")
# Eight points of three kinds for Stage I: without the previous frame no tau matters.
GRID = ("previous=0|0.4", "current=rest", "tau=0|1", "strength=0.3|1")
FRAMES = [20, 21, 23, 24]
ABSENT = {"lpips_alex": "its weights are absent; fetch them"}


@pytest.fixture(autouse=True)
def no_lpips(monkeypatch):
    monkeypatch.setattr(plan, "open_perceptual", lambda: (None, ABSENT))


@pytest.fixture
def run(avatar_folder, capture_folder, tmp_path):
    def once(name="out", avatar=avatar_folder, capture=capture_folder, **options):
        return ablate(avatar, capture, tmp_path / name, AblationOptions(**{"grid": GRID, **options}))

    return once


@pytest.fixture(scope="module")
def kept(avatar_folder, capture_folder, tmp_path_factory):
    """A finished report with its renders, and what was done for it, by name."""
    counts = {"traces": 0, "loads": 0, "outlines": 0, "details": 0}
    sample, load, call = stage_sampler.sample_sequence, ablate_module.load_networks, stage_sampler.StageSampler.__call__

    def traced(*arguments, **settings):
        counts["traces"] += 1
        return sample(*arguments, **settings)

    def loaded(*arguments):
        counts["loads"] += 1
        return load(*arguments)

    def called(self, parts):
        stage = "details" if self.count == 2 else "outlines"
        counts[stage] += sum(len(part.numbers) for part in parts)
        return call(self, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "open_perceptual", lambda: (None, ABSENT))
        patch.setattr(stage_sampler, "sample_sequence", traced)
        patch.setattr(ablate_module, "load_networks", loaded)
        patch.setattr(stage_sampler.StageSampler, "__call__", called)
        out = tmp_path_factory.mktemp("kept") / "out"
        ablate(avatar_folder, capture_folder, out, AblationOptions(grid=GRID, keep_renders=True))
    return out, counts


def ablation_of(folder):
    return read_manifest(folder, "report")["ablation"]


@pytest.fixture
def written(monkeypatch):
    """(folder, frame) of all pictures that are written."""
    found, original = [], render_module.RenderWriter.write

    def write(self, frames, *arguments):
        # What a resumed render hands to its videos again is not written again.
        found.extend((self.images.frames_folder, int(frame)) for frame in frames if frame >= self.written)
        original(self, frames, *arguments)

    monkeypatch.setattr(render_module.RenderWriter, "write", write)
    return found


def test_the_report(kept, capture_folder, tmp_path):
    out, _ = kept
    ablation = ablation_of(out)
    assert set(ablation) == {"axes", "points", "metrics", "front", "left_out"}
    assert ablation["axes"] == {"previous": [0, 0.4], "tau": [0, 1], "strength": [0.3, 1]}
    assert ablation["front"] == ["smoothness", "ssim"] and ablation["left_out"] == ABSENT
    points = ablation["points"]
    expected = itertools.product(*ablation["axes"].values())
    assert [tuple(point["settings"][name] for name in ablation["axes"]) for point in points] == list(expected)
    for point in points:
        settings = point["settings"]
        assert settings["current"] == 1 - settings["previous"] and settings["noise"] == 1 and settings["steps"] == 2
        assert list(point["scores"]) == ["psnr", "ssim", "mse", "smoothness"]
    for (a, b, c), point in zip(itertools.product(range(2), repeat=3), points, strict=True):
        assert {name: values[a][b][c] for name, values in ablation["metrics"].items()} == point["scores"]
    # Without the previous frame no tau matters; with it, and with another strength, it does.
    scores = [point["scores"] for point in points]
    assert scores[:2] == scores[2:4]
    assert len({tuple(each.values()) for each in scores}) == 6
    assert sum(point["best"] for point in points) == 1 and all(point["on_front"] for point in points if point["best"])
    # The same numbers as those of the tool that scores single renders.
    report = evaluate(out / "renders" / "previous_0.4_tau_1" / "strength_0.3", capture_folder, tmp_path / "report")
    single = read_manifest(report, "report")["scores"]["result"]["full"]
    assert scores[6] == {name: single[name] for name in scores[6]}
    for picture in ("front", "heatmap_psnr", "heatmap_ssim", "heatmap_mse", "heatmap_smoothness"):
        assert min(read_png(out / f"{picture}.png").shape[:2]) > 100
    assert {path.name for path in out.iterdir()} >= {"metrics.json", "renders"} and len(list(out.iterdir())) == 8


def test_it_is_inspected(kept, tmp_path, capsys):
    out = shutil.copytree(kept[0], tmp_path / "out")
    assert inspect(out) == []
    assert "best: current" in capsys.readouterr().out
    (out / "front.png").unlink()
    assert inspect(out) == ["front.png is missing"]
    assert inspect(out / "renders" / "previous_0_tau_0" / "strength_1") == []


def test_what_can_be_shared_is(kept):
    """One program for each stage, networks loaded once, Stage I once for points that differ in strength."""
    counts = kept[1]
    # Fewer where another test has compiled the same.
    assert counts.pop("traces") <= 2
    assert counts == {"loads": 1, "outlines": 3 * len(FRAMES), "details": 6 * len(FRAMES)}


@pytest.mark.slow
@pytest.mark.usefixtures("kept")
def test_only_the_number_of_steps_compiles_again(run, traces):
    run(grid=("steps=1|2", "noise=0.9|1", "previous=0.1|0.2", "strength=0.3|1"), maps="driver")
    assert len(traces) <= 1


def test_a_point_is_as_a_render_makes_it(kept, avatar_folder, capture_folder, tmp_path):
    options = RenderOptions(current=0.6, previous=0.4, tau=0.0, sweep="strength=0.3|1", steps=2)
    sweep = render(avatar_folder, capture_folder, tmp_path / "sweep", options)
    for name in ("strength_0.3", "strength_1"):
        expected = read_pngs(sweep / name / "frames", FRAMES)
        point = read_pngs(kept[0] / "renders" / "previous_0.4_tau_0" / name / "frames", FRAMES)
        np.testing.assert_array_equal(point, expected)


@pytest.mark.parametrize("scored", [0, 3])
def test_an_interrupted_one_goes_on(kept, run, written, monkeypatch, tmp_path, scored):
    """After so many scores: before the first one, or where one render of a group is scored and the other is not."""
    notes, write = [], ablate_module.write_json

    def noted(path, content):
        if len(notes) == scored:
            raise KeyboardInterrupt
        notes.append(path.name)
        write(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ablate_module, "write_json", noted)
        run()
    assert len(list((tmp_path / "out.partial" / "scores").iterdir())) == scored
    assert not (tmp_path / "out").exists()
    assert ablation_of(run()) == ablation_of(kept[0])
    # Six renders, and no picture twice.
    assert len(written) == len(set(written)) == 6 * len(FRAMES)
    assert not (tmp_path / "out.partial").exists() and len(list((tmp_path / "out").iterdir())) == 7


def test_other_settings_do_not_go_on(run, monkeypatch, tmp_path):
    small = {"grid": ("strength=0.3|1",), "maps": "driver"}

    def broken(*arguments):
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ablate_module, "score_render", broken)
        with pytest.raises(UserError, match=r"the disk is full; renders that are scored \(0\) are kept"):
            run(**small)
    for change, named in (
        ({"grid": ("strength=0.3|0.9",)}, r"axes\.strength \[0.3, 1.0\], not \[0.3, 0.9\]"),
        ({"seed": 3}, "settings.seed 0, not 3"),
        ({"keep_renders": True}, "keep_renders False, not True"),
        ({"frames": "20:22"}, r"videos.0.frames \[20, 25\], not \[20, 22\]"),
    ):
        with pytest.raises(UserError, match=rf"out\.partial is an unfinished run with .*{named}.*add --force"):
            run(**{**small, **change})
    assert len(ablation_of(run(**{**small, "seed": 3, "force": True}))["points"]) == 2
    with pytest.raises(UserError, match=r"--out .*out exists; add --force"):
        run(**small)


def test_before_the_first_picture_nothing_is_left(run, monkeypatch, tmp_path):
    monkeypatch.setattr(ablate_module, "load_networks", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
    assert list(tmp_path.iterdir()) == []


def test_the_best_weights_are_written_on_demand(avatar_folder, run, monkeypatch, tmp_path, capsys):
    avatar = shutil.copytree(avatar_folder, tmp_path / "avatar")
    before = read_manifest(avatar, "avatar")
    settings = {"avatar": avatar, "grid": ("previous=0.1|0.5", "noise=0.8", "strength=0.3|1"), "maps": "driver"}
    out = run(**settings)
    assert read_manifest(avatar, "avatar") == before
    # Nothing is rendered again.
    monkeypatch.setattr(ablate_module, "_make", lambda *arguments: 1 / 0)
    with pytest.raises(UserError, match=r"out is a report with settings.seed 0, not 1; give its own settings"):
        run(**settings, write_best=True, seed=1)
    run(**settings, write_best=True)
    (best,) = (point["settings"] for point in ablation_of(out)["points"] if point["best"])
    after = read_manifest(avatar, "avatar")
    assert after["temporal"] == {"current": 0.7, "previous": best["previous"], "noise": 0.8, "tau": 1.0}
    assert body_of(after) == body_of(before) | {"temporal": after["temporal"]}
    assert inspect(avatar) == []
    assert f"wrote the weights current 0.7, previous {best['previous']:g}" in capsys.readouterr().out
    with pytest.raises(UserError, match="is a report with avatar"):
        run(**settings, write_best=True)


def test_lpips_where_its_weights_are(run, monkeypatch, capture_folder):
    batches = []

    class LPIPS:
        net, smallest = "alex", 8

        def __init__(self):
            self.sha256 = {"alex.pth": "0" * 64}

        def features(self, images):
            batches.append(images.shape)
            return [images.astype(float)]

        def distance(self, features, others):
            return np.abs(features[0] - others[0]).mean((1, 2, 3)) / 255

    monkeypatch.setattr(plan, "open_perceptual", lambda: (LPIPS(), {}))
    out = run(grid=("strength=0.3|1",), maps="driver", keep_renders=True)
    ablation = ablation_of(out)
    assert ablation["front"] == ["smoothness", "lpips_alex"] and ablation["left_out"] == {}
    # One shape: the reference and the picture.
    assert set(batches) == {(2, 64, 64, 3)}
    truth = read_pngs(capture_folder / "frames", FRAMES).astype(float)
    for point, strength in zip(ablation["points"], ("0.3", "1"), strict=True):
        pictures = read_pngs(out / "renders" / "all" / f"strength_{strength}" / "frames", FRAMES)
        # Eight digits are kept.
        assert point["scores"]["lpips_alex"] == pytest.approx(np.abs(pictures - truth).mean() / 255, rel=1e-7)
    assert (out / "heatmap_lpips_alex.png").is_file() and inspect(out) == []
    assert read_manifest(out, "report")["protocol"]["lpips"] == LPIPS().sha256


def test_the_table(kept):
    lines = table(read_manifest(kept[0], "report")).splitlines()
    assert lines[0].split() == ["current", "previous", "tau", "strength", "psnr", "ssim", "mse", "smoothness"]
    points = [point for point in ablation_of(kept[0])["points"] if point["on_front"]]
    assert lines[len(points) + 1] == f"{len(points)} of 8 points: no other point has less smoothness and less 1 - ssim"
    assert sum(line.endswith("best") for line in lines) == 1
    assert "lpips_alex is left out: its weights are absent; fetch them" in lines
    assert lines[-1].startswith("best: current ") and lines[-1].endswith("at most 2% above the least)")


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": "22:24"}, r"--frames 22:24: no two frames of .* follow each other in one shot"),
        ({"frames": "30:40"}, r"--frames 30:40: .* has the frames 0:25"),
        ({"grid": ("tua=1",)}, "unknown axis tua; did you mean tau"),
        ({"seed": -1}, "--seed -1: allowed are 0 to"),
        ({"grid": ("steps=1000",)}, r"--steps: 1000 denoising steps: with steps_offset 1"),
        # Infinite in single precision.
        ({"grid": ("previous=1e39",)}, "the outlines stage gives numbers that are not finite"),
    ],
)
def test_bad_settings(run, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run(**options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_bad_folders(run, avatar_folder, capture_folder, tmp_path):
    with pytest.raises(UserError, match=r"nothing: no such folder; give the folder of a capture"):
        run(capture=tmp_path / "nothing")
    with pytest.raises(UserError, match="is not a finished avatar"):
        run(avatar=capture_folder)
    with pytest.raises(UserError, match="prepare the driver's video with --size 64"):
        run(capture=make_capture(tmp_path / "large", 5, size=128))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_a_tau_behind_the_avatars_range(run, avatar_folder, tmp_path):
    avatar = shutil.copytree(avatar_folder, tmp_path / "avatar")
    body = body_of(read_manifest(avatar, "avatar"))
    write_manifest(avatar, "avatar", body | {"temporal": body["temporal"] | {"tau": 0.2, "tau_end": 0.8}})
    with pytest.raises(UserError, match=r"--grid tau: 0.9 is behind the avatar's tau_end; allowed are 0 to 0.8"):
        run(avatar=avatar, grid=("tau=0.5|0.9",))


def test_a_capture_that_the_avatar_was_not_trained_on(run, tmp_path):
    other = make_capture(tmp_path / "other", 5)
    with pytest.warns(UserWarning, match="was not trained on .*other: the scores say something only if"):
        out = run(capture=other, grid=("strength=0.3|1",), frames="0:4", maps="driver")
    assert read_manifest(out, "report")["run"]["settings"]["motion"] == "absolute"
