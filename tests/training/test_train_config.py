"""Presets: all of them load, and what is wrong with one is named."""

import dataclasses
from pathlib import Path

import pytest

from svp_jax.errors import UserError
from svp_jax.training.config import Copies, Stage, TrainConfig, check, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_there_are_presets():
    assert {path.stem for path in CONFIGS} >= {"tiny", "tiny256", "sd15", "sd15-locked", "sd21"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_presets_load(path):
    config = load_config(path)
    assert config != TrainConfig()
    # The header says how it is run.
    assert f"--config configs/{path.name}" in path.read_text()


def load(tmp_path, text: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path)


def test_values_and_defaults(tmp_path):
    config = load(tmp_path, "batch_size: 2\nclip_norm: 2\nprompt: a man\ndetails:\n  learning_rate: 1e-4\n  steps: 7")
    assert config == TrainConfig(batch_size=2, clip_norm=2.0, prompt="a man", details=Stage(7, 1e-4))
    assert isinstance(config.clip_norm, float)
    assert load(tmp_path, "") == TrainConfig()
    assert load(tmp_path, "copies:\n  per_frame: 1\n  colour: 0.1").copies == Copies(1, colour=0.1)
    # The paper's setting.
    assert TrainConfig().copies == Copies(0, flipped=False, colour=0.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batchsize: 2", r"config\.yaml: unknown key batchsize; did you mean batch_size\?"),
        ("details:\n  step: 2", r"unknown key details\.step; did you mean details\.steps\?"),
        ("zzz: 2", "unknown key zzz; known: outlines, details, vae"),
        ("batch_size: two", "batch_size must be int, found 'two'"),
        ("batch_size: 2.5", "batch_size must be int, found 2.5"),
        ("batch_size: true", "batch_size must be int, found True"),
        ("clip_norm: true", "clip_norm must be float, found True"),
        ("clip_norm: much", "clip_norm must be float, found 'much'"),
        ("prompt: 3", "prompt must be str, found 3"),
        ("degrade_parsing: 1", "degrade_parsing must be bool, found 1"),
        ("details: 3", r"details must hold `key: value` lines, found 3"),
        ("- 1", r"the file must hold `key: value` lines"),
        ("a: [", "not valid YAML"),
        ("batch_size: 0", "batch_size is 0, allowed are 1 or more"),
        ("details:\n  trainable: half", "details.trainable is 'half', allowed are locked, unlocked, full"),
        ("vae:\n  trainable: encoder", "vae.trainable is 'encoder', allowed are none, decoder, all"),
        ("vae:\n  trainable: all", "vae.steps is 0"),
        ("vae:\n  trainable: all\n  steps: 2\n  batch_size: 0", "vae.batch_size is 0"),
        ("decay: linear", "decay is 'linear', allowed are constant, cosine"),
        ("prompt_dropout: 1.5", "prompt_dropout is 1.5, allowed are 0 to 1"),
        ("temporal_tau: -0.1", "temporal_tau is -0.1, allowed are 0 to 1"),
        ("temporal_noise: .inf", "temporal_noise is inf, allowed are finite numbers"),
        ("clip_norm: .nan", "clip_norm is nan"),
        ("outlines:\n  learning_rate: 0", "outlines.learning_rate is 0.0"),
        ("moved_copies: 1", "unknown key moved_copies"),
        ("copies: 2", r"copies must hold `key: value` lines, found 2"),
        ("copies:\n  flip: true", r"unknown key copies\.flip; did you mean copies\.flipped\?"),
        ("copies:\n  per_frame: -1", r"copies\.per_frame is -1, allowed are 0 or more"),
        ("copies:\n  per_frame: 1\n  colour: 1.5", r"copies\.colour is 1.5, allowed are 0 to 1"),
        (
            "copies:\n  per_frame: 1\n  moved: false",
            r"nothing changes the copies; set copies\.moved",
        ),
        ("copies:\n  flipped: true", r"copies\.per_frame is 0, so there are no copies"),
        ("loader_processes: -1", "loader_processes is -1, allowed are 0 or more"),
        ("warmup_steps: -1", "warmup_steps is -1, allowed are 0 or more"),
        ("seed: -1", "seed is -1, allowed are 0 to 4294967295"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"No such file.*presets lie in configs/"):
        load_config(tmp_path / "no.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not a text file"):
        load_config(tmp_path / "binary.yaml")


def test_every_number_is_checked_for_being_finite():
    """A new field of TrainConfig must not be left out of `check`."""
    config = TrainConfig()
    for field in dataclasses.fields(TrainConfig):
        if field.type is float:
            with pytest.raises(UserError, match=field.name):
                check(dataclasses.replace(config, **{field.name: float("nan")}))
        if field.type is int:
            with pytest.raises(UserError, match=field.name):
                check(dataclasses.replace(config, **{field.name: -1}))


def test_the_documents_table_has_every_key_and_its_default():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    rows = {line.split(" | ")[0]: line.split(" | ")[1] for line in text.splitlines() if line.startswith("| `")}

    def check(settings, prefix):
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            if dataclasses.is_dataclass(value):
                if field.name != "details":
                    check(value, f"{field.name}.")
                continue
            shown = '""' if value == "" else str(value).lower() if isinstance(value, bool) else str(value)
            assert rows[f"| `{prefix}{field.name}`"] == f"`{shown}`"

    check(TrainConfig(), "")
