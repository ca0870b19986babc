"""`svp demo` from end to end, with a few steps where a real run takes hundreds."""

import dataclasses
import itertools
import json

import pytest
from factories import make_base

from svp_jax import demo as demo_module
from svp_jax.demo import CONFIG, demo
from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import read_manifest
from svp_jax.metrics import evaluate
from svp_jax.training.config import Stage, VAEPass
from svp_jax.weights.base import TINY_BASE


@pytest.fixture(params=["random", pytest.param("tiny", marks=pytest.mark.slow)])
def short(request, monkeypatch, tmp_path):
    """Two seconds of film and two training steps each: the code of a real run, not its results.

    On a base of random weights and few layers, which compiles in a third of the time, or on the embedded one.
    """
    if request.param == "random":
        monkeypatch.setattr(demo_module, "BASE", str(make_base(tmp_path / "base")))
    elif not (TINY_BASE / "model_index.json").is_file():
        pytest.skip(f"the tiny base has not been trained: {TINY_BASE} is not there")
    stage = Stage(steps=2, trainable="unlocked")
    small = dataclasses.replace(
        CONFIG, outlines=stage, details=stage, vae=VAEPass("decoder", 2, 2), batch_size=2, preview_steps=2
    )
    for name, value in {"CONFIG": small, "SECONDS": 2.0, "SIZE": 64, "STEPS": 2, "MORPH_STEPS": 2}.items():
        monkeypatch.setattr(demo_module, name, value)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_starts_nothing(seed, tmp_path):
    with pytest.raises(UserError, match=f"--seed {seed}: allowed are 0 to 4294967294"):
        demo(tmp_path / "demo", seed=seed, force=False)
    assert not (tmp_path / "demo").exists()


def test_a_foreign_progress_is_left_alone(tmp_path):
    (tmp_path / "progress.json").write_text("{}")
    with pytest.raises(UserError, match="not of an unfinished demo"):
        demo(tmp_path, seed=1, force=True)
    assert (tmp_path / "progress.json").read_text() == "{}"


def test_it_runs_to_the_end_and_goes_on_where_it_stopped(short, monkeypatch, tmp_path):
    out = tmp_path / "demo"
    monkeypatch.setattr(demo_module, "evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        demo(out, seed=3, force=False)
    with pytest.raises(UserError, match=r"unfinished demo with --seed 3"):
        demo(out, seed=4, force=False)
    monkeypatch.setattr(demo_module, "evaluate", evaluate)
    kept = (out / "avatar" / "avatar.json").stat().st_mtime_ns
    table = demo(out, seed=3, force=False)
    assert (out / "avatar" / "avatar.json").stat().st_mtime_ns == kept

    files = {path.name for path in out.iterdir() if path.is_file()}
    videos = {"avatar.mp4", "side_by_side.mp4", "plain.mp4", "morph.mp4"}
    assert files == {*videos, "metrics.json", "contact_sheet.png", "morph_sheet.png", "README.md", "demo.json"}
    results = json.loads((out / "metrics.json").read_text())
    reports = {f"report_{name}" for name in demo_module.RENDERS}
    assert results["seconds"].keys() == {"capture", "avatar", "morph", *demo_module.RENDERS, *reports}
    assert results["temporal_denoising"].keys() == demo_module.RENDERS.keys()
    assert {"psnr_to_named", "psnr_to_original", "landmark_error"} <= results["morph"].keys()
    assert table in (out / "README.md").read_text()
    assert all(file in (out / "README.md").read_text() for file in files - {"README.md", "demo.json"})
    assert inspect(out) == []
    with pytest.raises(UserError, match="--force"):
        demo(out, seed=3, force=False)


@pytest.mark.slow
def test_scores_rank_what_was_made_as_they_should(tmp_path):
    if not (TINY_BASE / "model_index.json").is_file():
        pytest.skip(f"the tiny base has not been trained: {TINY_BASE} is not there")
    out = tmp_path / "demo"
    demo(out, seed=0, force=False)
    capture = out / "capture"
    plain, truth = tmp_path / "plain", tmp_path / "truth"
    evaluate([out / "render", out / "plain"], capture, plain, metrics=("pictures",))
    evaluate(capture, capture, truth, metrics=("pictures",))
    own = read_manifest(truth, "report")["scores"]["result"]["full"]
    found = {name: scores["full"] for name, scores in read_manifest(plain, "report")["scores"].items()}
    assert own["mse"] == 0 and own["psnr_infinite"] > 0 and own["smoothness"] == 0
    for better, worse in itertools.pairwise(("render", "nearest_frame", "mean_frame")):
        assert 0 < found[better]["mse"] < found[worse]["mse"]
        assert found[better]["psnr"] > found[worse]["psnr"]
        assert 1 > found[better]["ssim"] > found[worse]["ssim"]
    # The temporal weights are there for this. The mean frame, which does not move, is no measure of it.
    assert found["render"]["smoothness"] < found["plain"]["smoothness"] < found["nearest_frame"]["smoothness"]
