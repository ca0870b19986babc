"""`svp train` as a whole, on a random base and a small capture."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from factories import make_capture
from flax import nnx
from training_run import CONFIG, read_log

import svp_jax.training.train as train_module
from svp_jax.capture.images import read_png
from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import partial_folder, read_manifest, sha256_folder
from svp_jax.training import stage_run
from svp_jax.training.config import Stage, VAEPass
from svp_jax.training.first_controlnet import first_controlnet
from svp_jax.training.saving.checkpoints import Checkpoints
from svp_jax.training.stage import stage_loss
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.optimizer import make_optimizer
from svp_jax.training.step.packing import Packing
from svp_jax.training.step.train_step import make_train_step
from svp_jax.training.step.trainable import divide, flatten, stage_rules
from svp_jax.training.train import train
from svp_jax.weights.avatar import load_avatar
from svp_jax.weights.base import load_base

STAGES = ("outlines", "details")


@pytest.fixture(scope="module")
def avatar_folder(base_folder, capture_folder, tmp_path_factory):
    """Both stages unlocked, the VAE's decoder tuned: 4 steps each."""
    return train(capture_folder, str(base_folder), tmp_path_factory.mktemp("avatar") / "avatar", CONFIG)


def parameters(model: nnx.Module) -> dict[str, np.ndarray]:
    flat = nnx.to_flat_state(nnx.state(model))
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in flat}


def changed(model: nnx.Module, original: nnx.Module) -> set[str]:
    """Top-level parts of which any parameter differs by a bit."""
    one, other = parameters(model), parameters(original)
    assert one.keys() == other.keys()
    return {name.split("/")[0] for name in one if not np.array_equal(one[name], other[name])}


def test_it_writes_an_avatar_that_opens(avatar_folder, base_folder, capture_folder):
    avatar = load_avatar(avatar_folder)
    assert set(avatar.stages) == set(STAGES)
    assert avatar.manifest["base"]["sha256"] == load_base(base_folder).sha256
    capture = read_manifest(capture_folder, "capture")
    assert avatar.manifest["captures"][0]["manifest_sha256"] == capture["manifest_sha256"]
    assert avatar.manifest["prompt"] == "a person"
    assert avatar.manifest["condition"]["outlines"] == {"window": 3, "channels": 9, "order": ["geometry"] * 3}
    assert avatar.manifest["temporal"].keys() == {"current", "previous", "noise", "tau"}
    assert avatar.manifest["files"] == {name: sha256_folder(avatar_folder / name) for name in (*STAGES, "vae")}


def test_nothing_of_the_unfinished_run_is_left(avatar_folder):
    assert not partial_folder(avatar_folder).exists()
    names = {path.name for path in avatar_folder.iterdir()}
    assert names == {"avatar.json", "outlines", "details", "vae", "training"}


def test_it_keeps_log_and_previews(avatar_folder):
    for name in ("vae", *STAGES):
        notes = avatar_folder / "training" / name
        entries = read_log(notes)
        # Of the step 0 there are scores, where a preview has some.
        assert [entry["step"] for entry in entries if "loss" in entry] == [2, 4]
        assert [entry["step"] for entry in entries if "mean_iou" in entry] == ([0, 2, 4] if name == "outlines" else [])
        assert all(np.isfinite(list(entry.values())).all() for entry in entries)
        assert list((notes / "tensorboard").iterdir())
        assert sorted(path.name for path in notes.glob("*.png")) == [f"preview_00000{n}.png" for n in (0, 2, 4)]
    # Target, condition and sample below each other, four frames beside each other.
    assert read_png(avatar_folder / "training" / "details" / "preview_000004.png").shape == (3 * 64, 4 * 64, 3)


def test_the_ceiling_is_reported(avatar_folder):
    ceiling = read_manifest(avatar_folder, "avatar")["vae_round_trip"]
    assert ceiling["split"] == "test" and ceiling["frames"] == 4
    assert np.isfinite([ceiling["base_psnr"], ceiling["tuned_psnr"]]).all()
    assert ceiling["base_psnr"] != ceiling["tuned_psnr"]


def test_unlocked_trains_controlnet_and_decoder_half_only(avatar_folder, base_folder):
    base, avatar = load_base(base_folder), load_avatar(avatar_folder)
    for stage in avatar.stages.values():
        assert changed(stage.unet, base.unet) == {"up_blocks", "conv_norm_out", "conv_out"}
        # Its zero convolutions start at zero; that they are not says that it takes part.
        weights = parameters(stage.controlnet)
        assert all(np.abs(weights[name]).max() > 0 for name in weights if name.startswith("controlnet_"))
    assert changed(avatar.vae, base.vae) == {"decoder", "post_quant_conv"}


def test_locked_leaves_the_whole_unet(base_folder, capture_folder, tmp_path, monkeypatch):
    returned, fit = {}, stage_run.fit

    def spy(name, *args, **kwargs):
        returned[name] = fit(name, *args, **kwargs)
        return returned[name]

    monkeypatch.setattr(stage_run, "fit", spy)
    locked = dataclasses.replace(CONFIG, outlines=Stage(steps=2, trainable="locked"), vae=VAEPass())
    train(capture_folder, str(base_folder), tmp_path / "avatar", locked, "outlines")
    base, avatar = load_base(base_folder), load_avatar(tmp_path / "avatar")
    assert changed(returned["outlines"]["unet"], base.unet) == set()
    assert not (tmp_path / "avatar" / "outlines" / "unet").exists()
    assert changed(avatar.stages["outlines"].unet, base.unet) == set()
    assert changed(avatar.vae, base.vae) == set()
    assert set(avatar.stages) == {"outlines"}
    assert avatar.manifest["files"].keys() == {"outlines"}


def test_both_stages_get_the_same_compiled_step(base_folder):
    """Which needs equal structures, rules and losses; the second stage would compile for another minute."""
    base = load_base(base_folder)
    steps = []
    for _ in STAGES:
        models = {"controlnet": first_controlnet(base, "", "details", 9, seed=0), "unet": base.unet}
        structures, flat = flatten(models)
        trained, _, multipliers = divide(flat, stage_rules("unlocked", 0.5))
        packing = Packing.of(trained)
        loss_of = stage_loss(base.scheduler_config, 0.2, 1.0, None)
        optimizer = make_optimizer(1.0, 0.01, tuple(multipliers.items()), packing)
        steps.append(make_train_step(loss_of, tuple(structures.items()), packing, optimizer, Devices.of("pmap")))
    assert steps[0] is steps[1]


def test_a_run_that_was_killed_goes_on_bit_for_bit(
    avatar_folder, base_folder, capture_folder, tmp_path, monkeypatch, capsys
):
    """Killed after step 2 of 4 in the VAE pass and in each stage; equal to the run that was not."""
    out, killed = tmp_path / "avatar", []

    def run(config=CONFIG):
        return train(capture_folder, str(base_folder), out, config)

    save = Checkpoints.save

    def save_and_die(self, step, state, about):
        save(self, step, state, about)
        self.wait()
        name = about["run"]
        if step == 2 and name not in killed:
            killed.append(name)
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save_and_die)
    for name in ("vae", *STAGES):
        with pytest.raises(KeyboardInterrupt):
            run()
        assert killed[-1] == name
        assert not out.exists()
    with pytest.raises(UserError, match=r"config\.outlines\.steps 4, not 5.*same settings.*remove it"):
        run(dataclasses.replace(CONFIG, outlines=dataclasses.replace(CONFIG.outlines, steps=5)))
    run()
    assert "details: goes on from step 2" in capsys.readouterr().err

    assert read_manifest(out, "avatar")["files"] == read_manifest(avatar_folder, "avatar")["files"]
    for name in ("vae", *STAGES):
        losses = [
            [(e["step"], e.get("loss"), e.get("mean_iou")) for e in read_log(f / "training" / name)]
            for f in (out, avatar_folder)
        ]
        assert losses[0] == losses[1]
        pictures = [sorted(p.name for p in (f / "training" / name).glob("*.png")) for f in (out, avatar_folder)]
        assert pictures[0] == pictures[1] == [f"preview_{step:06d}.png" for step in (0, 2, 4)]


@pytest.mark.slow
def test_a_run_goes_on_with_other_ways_of_carrying_it_out(base_folder, capture_folder, tmp_path, monkeypatch):
    """Begun by pmap in one part, gone on with by fsdp in two, with more saves: what comes of it is the same."""
    begun = dataclasses.replace(CONFIG, vae=VAEPass())
    plain = train(capture_folder, str(base_folder), tmp_path / "plain", begun, "outlines")
    save = Checkpoints.save

    def save_and_die(self, step, state, about):
        save(self, step, state, about)
        self.wait()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", save_and_die)
        train(capture_folder, str(base_folder), tmp_path / "out", begun, "outlines")
    other = dataclasses.replace(begun, parallel="fsdp", accumulation=2, remat="full", save_every=1, preview_every=4)
    out = train(capture_folder, str(base_folder), tmp_path / "out", other, "outlines")
    # Of the last step alone: the logged loss is the mean since the line before, and there are more lines now.
    norms = [read_log(folder / "training" / "outlines")[-1]["gradient_norm"] for folder in (plain, out)]
    assert abs(norms[0] / norms[1] - 1) < 1e-4
    weights = [parameters(load_avatar(f).stages["outlines"].controlnet) for f in (plain, out)]
    for name, x in weights[0].items():
        # Four steps of Adam at a rate of 1e-3: signs of tiny gradients may differ by what is summed in another order.
        np.testing.assert_allclose(weights[1][name], x, atol=2e-4)


def test_settings_that_are_refused_leave_nothing(base_folder, capture_folder, tmp_path):
    for change, words in (
        ({"prompt": "x" * 100}, "tokens"),
        ({"preview_steps": 2000}, "preview_steps is 2000"),
        ({"batch_size": 0}, "batch_size"),
    ):
        with pytest.raises(UserError, match=words):
            train(capture_folder, str(base_folder), tmp_path / "out", dataclasses.replace(CONFIG, **change))
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_does_not_divide_over_the_devices(base_folder, capture_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "find_devices", lambda kind: jax.devices() * 3)
    with pytest.raises(UserError, match="batch_size is 4, but there are 3 devices; use a multiple of 3"):
        train(capture_folder, str(base_folder), tmp_path / "out", CONFIG)
    with pytest.raises(UserError, match=r"vae\.batch_size is 4"):
        train(capture_folder, str(base_folder), tmp_path / "out", dataclasses.replace(CONFIG, batch_size=6))
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there(base_folder, capture_folder, tmp_path):
    config = dataclasses.replace(CONFIG, device="gpu")
    with pytest.raises(UserError, match=r"device is gpu, but JAX .* 1 x cpu; install svp_jax\[cuda\].*--device any"):
        train(capture_folder, str(base_folder), tmp_path / "out", config)
    assert list(tmp_path.iterdir()) == []


def test_too_few_frames(base_folder, tmp_path):
    capture = make_capture(tmp_path / "capture", 8)
    with pytest.raises(UserError, match="6 frames with a face to train on; at least 8"):
        train(capture, str(base_folder), tmp_path / "out", CONFIG)


def test_a_finished_avatar_is_not_overwritten(avatar_folder, base_folder, capture_folder):
    before = sha256_folder(avatar_folder)
    with pytest.raises(UserError, match="--force"):
        train(capture_folder, str(base_folder), avatar_folder, CONFIG)
    assert sha256_folder(avatar_folder) == before


def test_a_stage_joins_the_other(avatar_folder, base_folder, capture_folder, tmp_path):
    """Trained one after the other they are what they are when trained together."""
    out = tmp_path / "avatar"
    train(capture_folder, str(base_folder), out, CONFIG, stage="outlines")
    assert list(read_manifest(out, "avatar")["stages"]) == ["outlines"]
    other = dataclasses.replace(CONFIG, seed=CONFIG.seed + 1)
    with pytest.raises(UserError, match=r"is an avatar with config\.seed .*; use the same settings to add a stage"):
        train(capture_folder, str(base_folder), out, other, stage="details")
    with pytest.raises(UserError, match="exists; add --force"):
        train(capture_folder, str(base_folder), out, CONFIG, stage="outlines")
    with pytest.raises(UserError, match="has the stage outlines already; use --stage details"):
        train(capture_folder, str(base_folder), out, CONFIG)
    train(capture_folder, str(base_folder), out, CONFIG, stage="details")
    joined, together = (read_manifest(folder, "avatar") for folder in (out, avatar_folder))
    assert joined["files"] == together["files"] and joined["stages"] == together["stages"]
    assert not partial_folder(out).exists()


def test_inspect_finds_nothing_then_what_was_changed(avatar_folder, tmp_path, capsys):
    assert inspect(avatar_folder) == []
    assert "temporal.tau" in capsys.readouterr().out
    weights = avatar_folder / "details" / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-100])
        changed, broken = inspect(avatar_folder)
    finally:
        weights.write_bytes(content)
    assert changed == "details was changed after it was made"
    assert str(weights) in broken
    assert inspect(avatar_folder) == []


def test_an_avatar_names_the_base_that_it_misses(avatar_folder, base_folder):
    away = base_folder.rename(base_folder.with_name("away"))
    try:
        with pytest.raises(UserError, match=f"needs its base, which lay in {base_folder}"):
            load_avatar(avatar_folder)
        assert inspect(avatar_folder) == [f"its base {base_folder} is not there"]
        assert set(load_avatar(avatar_folder, base=away).stages) == set(STAGES)
    finally:
        away.rename(base_folder)


def test_an_avatar_refuses_another_base(avatar_folder, base_folder):
    path = base_folder / "scheduler" / "scheduler_config.json"
    content = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(content) | {"beta_end": 0.013}))
        with pytest.raises(UserError, match="give the base that it was trained on"):
            load_avatar(avatar_folder)
    finally:
        path.write_text(content)
