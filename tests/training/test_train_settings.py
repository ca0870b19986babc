"""What `train` hands to the loop: each stage's own samples, and every setting."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from factories import make_capture
from training_run import CONFIG

from svp_jax.capture.capture import open_capture
from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import body_of, read_manifest, write_manifest
from svp_jax.models.codec import encode_images
from svp_jax.training import stage_run
from svp_jax.training.config import Copies, Stage, VAEPass
from svp_jax.training.data.batches import batch_indices
from svp_jax.training.data.views import training_views
from svp_jax.training.settings import RunSettings
from svp_jax.training.train import train
from svp_jax.training.watching.log import TrainingLog
from svp_jax.weights.base import encode_prompts, load_base

SETTINGS = dataclasses.replace(
    CONFIG,
    outlines=Stage(steps=5, learning_rate=1e-3, unet_learning_rate=2e-4, trainable="full"),
    details=Stage(steps=6, learning_rate=4e-3, unet_learning_rate=3e-3, trainable="unlocked"),
    vae=VAEPass(),
    prompt_dropout=0.0,
    copies=Copies(per_frame=1),
    window=2,
    timestep_shift=2.5,
    min_snr_gamma=5.0,
    degrade_parsing=False,
    temporal_current=0.7,
    temporal_previous=0.2,
    temporal_noise=0.8,
    temporal_tau=0.6,
    accumulation=2,
    precision="bfloat16",
    remat="light",
    optimizer_state="factored",
    ema_decay=0.9,
    seed=3,
)


@pytest.fixture
def without_training(monkeypatch):
    """Calls of the loop, by stage, and of the loss; the loop gives back the models as they were."""
    calls, losses = {}, []

    def fit(name, models, rules, loss_of, samples, folder, settings, devices, preview):
        batch = samples(0, slice(None))
        calls[name] = {"models": models, "rules": rules, "batch": batch, "settings": settings, "devices": devices}
        with TrainingLog(folder, 0):
            return models

    def stage_loss(*arguments):
        losses.append(arguments)
        return stage_loss

    monkeypatch.setattr(stage_run, "fit", fit)
    monkeypatch.setattr(stage_run, "stage_loss", stage_loss)
    return calls, losses


def test_each_stage_gets_its_samples_and_settings(without_training, base_folder, capture_folder, tmp_path):
    calls, losses = without_training
    out = train(capture_folder, str(base_folder), tmp_path / "avatar", SETTINGS)
    base, capture = load_base(base_folder), open_capture(capture_folder)
    views = training_views([capture], SETTINGS.copies, SETTINGS.seed)
    chosen = batch_indices(SETTINGS.seed, 0, len(views), SETTINGS.batch_size)
    moved = views.changed(chosen)
    assert 0 < moved.sum() < len(chosen), "take another seed: the batch must hold both kinds"
    own, of_copies = np.asarray(encode_prompts(base, ["a person", "a person, moved"]))
    for name, stage in (("outlines", SETTINGS.outlines), ("details", SETTINGS.details)):
        call = calls[name]
        mean, std = encode_images(base.vae, lambda numbers, name=name: views.targets(name, numbers), chosen)
        # The same numbers in batches of other views.
        np.testing.assert_allclose(call["batch"]["mean"], mean, atol=1e-5)
        np.testing.assert_allclose(call["batch"]["std"], std, atol=1e-5)
        np.testing.assert_array_equal(call["batch"]["condition"], views.condition(name, chosen, 2))
        np.testing.assert_array_equal(call["batch"]["text"], np.where(moved[:, None, None], of_copies, own))
        assert call["models"].keys() == {"controlnet", "unet"}
        settings = call["settings"]
        assert settings == RunSettings.of(SETTINGS, stage.steps, stage.learning_rate)
        assert (settings.steps, settings.batch_size, settings.seed) == (stage.steps, SETTINGS.batch_size, 3)
        assert (settings.optimizer.learning_rate, settings.optimizer.state) == (stage.learning_rate, "factored")
        assert (settings.accumulation, settings.precision, settings.remat) == (2, "bfloat16", "light")
        assert settings.ema_decay == 0.9
        assert {model.dtype for model in call["models"].values()} == {jnp.dtype("bfloat16")}
        multipliers = {multiplier for pattern, multiplier in call["rules"] if pattern.startswith("unet/")} - {None}
        assert multipliers == {stage.unet_learning_rate / stage.learning_rate}
    assert not np.allclose(calls["outlines"]["batch"]["mean"], calls["details"]["batch"]["mean"], atol=0.01)
    assert {arguments[1:] for arguments in losses} == {(base.vae.config.scaling_factor, 2.5, 5.0)}
    manifest = read_manifest(out, "avatar")
    assert manifest["temporal"] == {"current": 0.7, "previous": 0.2, "noise": 0.8, "tau": 0.6}
    assert manifest["labels"] == ["background", "face"]
    assert manifest["condition"]["outlines"]["window"] == 2
    assert inspect(out) == []


def test_the_prompt_is_the_configs_else_the_first_captures(without_training, base_folder, capture_folder, tmp_path):
    told = make_capture(tmp_path / "told", 10)
    write_manifest(told, "capture", body_of(read_manifest(told, "capture")) | {"prompt": "she"})
    for number, (captures, given, prompt) in enumerate(
        [
            ([capture_folder], "", "a portrait of a person"),
            ([told, capture_folder], "", "she"),
            ([capture_folder, told], "", "a portrait of a person"),
            ([told], "a man", "a man"),
        ]
    ):
        out = train(captures, str(base_folder), tmp_path / str(number), dataclasses.replace(SETTINGS, prompt=given))
        manifest = read_manifest(out, "avatar")
        assert manifest["prompt"] == manifest["config"]["prompt"] == prompt


def test_dropped_prompts_are_empty_and_degraded_maps_are_those_of_details_alone(
    without_training, base_folder, capture_folder, tmp_path
):
    calls, _ = without_training
    settings = dataclasses.replace(SETTINGS, prompt_dropout=1.0, degrade_parsing=True)
    train(capture_folder, str(base_folder), tmp_path / "avatar", settings)
    empty = np.asarray(encode_prompts(load_base(base_folder), [""]))
    views = training_views([open_capture(capture_folder)], settings.copies, settings.seed)
    chosen = batch_indices(settings.seed, 0, len(views), settings.batch_size)
    for name in ("outlines", "details"):
        np.testing.assert_array_equal(calls[name]["batch"]["text"], np.repeat(empty, settings.batch_size, axis=0))
        clean = views.condition(name, chosen, 2)
        assert np.array_equal(calls[name]["batch"]["condition"], clean) == (name == "outlines")


def test_force_replaces_a_finished_avatar(without_training, base_folder, capture_folder, tmp_path):
    out = train(capture_folder, str(base_folder), tmp_path / "avatar", SETTINGS)
    (out / "mine.txt").write_text("goes with it")
    other = make_capture(tmp_path / "capture", 12)
    train(other, str(base_folder), out, SETTINGS, "details", force=True)
    manifest = read_manifest(out, "avatar")
    assert list(manifest["stages"]) == ["details"] and manifest["captures"][0]["path"] == str(other)
    assert {path.name for path in out.iterdir()} == {"avatar.json", "details", "training"}


def test_several_captures_of_one_person(without_training, base_folder, capture_folder, tmp_path):
    calls, _ = without_training
    other = make_capture(tmp_path / "other", 12)
    # The face that scripts move is the first one's.
    (other / "face.npz").write_bytes(b"of the second")
    settings = dataclasses.replace(SETTINGS, copies=Copies())
    train([capture_folder, other], str(base_folder), tmp_path / "avatar", settings, "outlines")
    manifest = read_manifest(tmp_path / "avatar", "avatar")
    assert [each["path"] for each in manifest["captures"]] == [str(capture_folder), str(other)]
    assert {path.name for path in (tmp_path / "avatar").iterdir()} == {"avatar.json", "outlines", "training"}
    views = training_views([open_capture(capture_folder), open_capture(other)], settings.copies, settings.seed)
    chosen = batch_indices(settings.seed, 0, len(views), settings.batch_size)
    assert len(set(views.sources[chosen])) == 2, "take another seed: the batch must hold both"
    np.testing.assert_array_equal(calls["outlines"]["batch"]["condition"], views.condition("outlines", chosen, 2))
    for captures, words in (
        ([capture_folder], "captures.count 2, not 1"),
        ([other, capture_folder], r"captures\.0\.manifest_sha256 .*captures\.1\.manifest_sha256"),
    ):
        with pytest.raises(UserError, match=f"is an avatar with {words}.*; use the same settings to add a stage"):
            train(captures, str(base_folder), tmp_path / "avatar", settings, "details")
    train([capture_folder, other], str(base_folder), tmp_path / "avatar", settings, "details")
    assert inspect(tmp_path / "avatar") == []
