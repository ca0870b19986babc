"""However a run is spread over devices, processes and parts of a batch, its losses are the same."""

import json
import subprocess

import numpy as np
import programs
import pytest
import training_run

from svp_jax.manifest import read_manifest
from svp_jax.training import loop


@pytest.fixture(scope="module")
def one(base_folder, capture_folder, tmp_path_factory):
    """The trace of one device, by pmap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        yield training_run.trace(base_folder, capture_folder, tmp_path_factory.mktemp("one") / "avatar")


@pytest.fixture
def start():
    """Starts the program on so many devices; what still runs at the end is killed."""
    with programs.killed_at_the_end() as start:
        yield lambda devices, *arguments: start(training_run, *arguments, devices=devices)


def traces(*started: subprocess.Popen) -> list[dict]:
    return [json.loads(line) for line, _ in programs.finish(*started)]


def check(name: str, found: dict, expected: dict) -> None:
    assert len(found["loss"]) == len(expected["loss"]) == 20
    difference = np.abs(np.subtract(found["loss"], expected["loss"])).max()
    norms = np.abs(np.divide(found["gradient_norm"], expected["gradient_norm"]) - 1).max()
    print(f"{name}: losses differ by {difference:.1e}, gradient norms by {norms:.1e} of their size")
    assert difference < 1e-5
    # Of sums over a million products, in another order.
    assert norms < 1e-4
    # The batches were not all alike, or nothing would have been shown.
    assert np.std(expected["loss"]) > 1e-3


def test_a_batch_in_four_parts(one, base_folder, capture_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    check("accumulation 4", training_run.trace(base_folder, capture_folder, tmp_path / "avatar", accumulation=4), one)


@pytest.mark.slow
def test_both_stages_at_once(start, one, base_folder, capture_folder, tmp_path):
    program = start(2, base_folder, capture_folder, tmp_path, "both")
    check("both stages at once", traces(program)[0]["both"], one)
    avatar = tmp_path / "both"
    assert read_manifest(avatar, "avatar")["stages"].keys() == {"outlines", "details"}
    losses = [entry["loss"] for entry in training_run.read_log(avatar / "training" / "outlines") if "loss" in entry]
    assert len(losses) == training_run.CONFIG.outlines.steps


@pytest.mark.slow
def test_four_devices_of_one_process(start, one, base_folder, capture_folder, tmp_path):
    (four,) = traces(start(4, base_folder, capture_folder, tmp_path, "pmap,fsdp"))
    assert (four["devices"], four["processes"]) == (4, 1)
    for way in ("pmap", "fsdp"):
        check(f"{way} on four devices", four[way], one)


def test_two_processes_of_two_devices(start, one, base_folder, capture_folder, tmp_path):
    arguments = base_folder, capture_folder, tmp_path / "two", "pmap,fsdp", f"localhost:{programs.free_port()}", 2
    for two in traces(*[start(2, *arguments, number) for number in range(2)]):
        assert (two["devices"], two["processes"]) == (4, 2)
        for way in ("pmap", "fsdp"):
            check(f"{way} in two processes", two[way], one)
