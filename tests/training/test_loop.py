"""The training loop, on a line to be fitted: log, checkpoints, resume, what stops it, how often it compiles."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from toy_run import OPTIMIZER, run, samples, squared_error

from svp_jax.errors import UserError
from svp_jax.training.data.loader import ORIGIN
from svp_jax.training.step.train_step import TrainStep


def log(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def saved(folder) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_it_learns_logs_saves_and_previews(tmp_path):
    seen = []

    def preview(step, models):
        seen.append((step, float(models["line"].bias[0])))

    line = run(tmp_path, steps=100, save_every=40, preview_every=60, preview=preview)["line"]
    # A hundred steps are on the way: 0.04 is left, after two hundred 6e-4.
    np.testing.assert_allclose(line.kernel[...], [[2.0], [-1.0]], atol=0.05)
    np.testing.assert_allclose(line.bias[...], [3.0], atol=0.05)
    assert [step for step, _ in seen] == [0, 60, 100]
    assert seen[0][1] == 0 and seen[2][1] == float(line.bias[0])
    entries = log(tmp_path)
    assert [entry["step"] for entry in entries] == [*range(10, 101, 10)]
    assert entries[-1]["loss"] < 0.01 * entries[0]["loss"]
    norms = {"gradient_norm", "update_norm", "parameter_norm"}
    speed = {"images_per_second", "waiting", "peak_memory"}
    assert entries[0].keys() == {"step", "loss", "learning_rate"} | norms | speed
    assert all(0 <= entry["waiting"] < 1 for entry in entries)
    # The newest two stay.
    assert saved(tmp_path) == [80, 100]


def test_frozen_parameters_stay(tmp_path):
    line = run(tmp_path, rules=((r"line/kernel", 1.0), (r"line/.*", None)))["line"]
    assert float(line.bias[0]) == 0
    assert np.abs(line.kernel[...] - nnx.Linear(2, 1, rngs=nnx.Rngs(0)).kernel[...]).max() > 0.1


def test_it_compiles_once(tmp_path):
    traces = []

    def counting(models, batch, keys):
        traces.append(batch["x"].shape)
        return squared_error(models, batch, keys)

    run(tmp_path, loss_of=counting)
    assert traces == [(4, 2)]


def die_at(step: int, finished: int, models) -> None:
    if finished == step:
        raise RuntimeError("killed")


@pytest.mark.parametrize("killed_at", [4, 6, 8])
def test_resume_is_exact(tmp_path, killed_at):
    """Killed in a preview, which comes before the step's own checkpoint: more is in the log than was saved."""
    whole = run(tmp_path / "whole")["line"]
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "parts", preview_every=2, preview=partial(die_at, killed_at))
    rest = []

    def watching(step, rows):
        rest.append(step)
        return samples(step, rows)

    parts = run(tmp_path / "parts", samples=watching)["line"]
    # Some more are made ahead.
    first = (killed_at - 1) // 4 * 4
    assert sorted(rest)[: 12 - first] == list(range(first, 12))
    np.testing.assert_array_equal(parts.kernel[...], whole.kernel[...])
    np.testing.assert_array_equal(parts.bias[...], whole.bias[...])
    losses = [[(entry["step"], entry["loss"]) for entry in log(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_a_log_line_that_a_kill_cut_off(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, preview_every=2, preview=partial(die_at, 4))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    run(tmp_path)
    assert [entry["step"] for entry in log(tmp_path)] == [4, 8, 10, 12]


def test_a_run_killed_before_its_first_checkpoint_starts_its_log_anew(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, save_every=12, preview_every=11, preview=partial(die_at, 11))
    assert [entry["step"] for entry in log(tmp_path)] == [10]
    run(tmp_path, save_every=12)
    assert [entry["step"] for entry in log(tmp_path)] == [10, 12]


def test_the_seed_counts(tmp_path):
    biases = [float(run(tmp_path / str(n), seed=seed)["line"].bias[0]) for n, seed in enumerate((0, 0, 1))]
    assert biases[0] == biases[1] != biases[2]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run(tmp_path)["line"]
    again = run(tmp_path, preview=partial(die_at, 0))["line"]
    np.testing.assert_array_equal(first.kernel[...], again.kernel[...])


@pytest.mark.parametrize("bad_step", [5, 7])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path, bad_step):
    """Noticed before the broken parameters are saved, though no log is due."""

    def poisoned(step, rows):
        batch = {**samples(step, rows), ORIGIN: np.stack([rows % 2, step + rows], axis=1)}
        return {**batch, "y": batch["y"] * np.nan} if step == bad_step else batch

    message = (
        rf"toy: the loss is not finite at step {bad_step + 1} .*the batch has frames {bad_step}, {bad_step + 2} of "
        rf"capture 1 and frames {bad_step + 1}, {bad_step + 3} of capture 2.*line/bias.*"
        rf"the state after step {bad_step} is kept"
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path, samples=poisoned)
    assert bad_step in saved(tmp_path)
    # From there it goes on as if nothing had been, and comes to where an untroubled run does.
    mended, whole = run(tmp_path)["line"], run(tmp_path / "whole")["line"]
    np.testing.assert_array_equal(mended.kernel[...], whole.kernel[...])


def out_of_memory(*_, **__) -> None:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")


def test_a_preview_without_memory_is_left_out(tmp_path):
    with pytest.warns(UserWarning, match=r"toy: the preview of step 12 is left out: the device is out of memory"):
        whole = run(tmp_path, preview=out_of_memory)["line"]
    np.testing.assert_array_equal(whole.kernel[...], run(tmp_path / "whole")["line"].kernel[...])


@pytest.mark.parametrize(
    ("method", "words"), [("__call__", r"toy needs \d+ MiB \(state"), ("compile", r"toy needs more than \d+ MiB")]
)
def test_a_step_without_memory_says_what_helps(tmp_path, monkeypatch, method, words):
    monkeypatch.setattr(TrainStep, method, out_of_memory)
    with pytest.raises(UserError, match=f"^the device is out of memory: {words}.*start anew with precision: bfloat16"):
        run(tmp_path)


def test_a_batch_must_divide(tmp_path):
    with pytest.raises(UserError, match=r"batch_size is 4, .* 1 devices x 3 accumulated parts.*multiple of 3"):
        run(tmp_path, accumulation=3)


def test_runs_of_another_length_rate_and_seed_share_a_step(tmp_path):
    """What differs between them is an argument of the compiled step, not part of it."""
    traces = []

    def counted(models, batch, keys):
        traces.append(1)
        return squared_error(models, batch, keys)

    run(tmp_path / "a", steps=4, loss_of=counted)
    first = len(traces)
    other = dataclasses.replace(OPTIMIZER, learning_rate=0.2, decay="cosine", warmup_steps=2)
    run(tmp_path / "b", steps=8, seed=5, optimizer=other, loss_of=counted)
    assert len(traces) == first
    run(tmp_path / "c", steps=4, optimizer=dataclasses.replace(OPTIMIZER, clip_norm=2.0), loss_of=counted)
    assert len(traces) > first
