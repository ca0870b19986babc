"""However a run is spread over devices, processes and parts of a batch, its losses are the same."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import training_run

from svp_jax.training import loop

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def one(base_folder, capture_folder, tmp_path_factory):
    """The trace of one device, by pmap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        yield training_run.trace(base_folder, capture_folder, tmp_path_factory.mktemp("one") / "avatar")


def start(devices: int, *arguments: object) -> subprocess.Popen:
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent))),
    }
    command = [sys.executable, training_run.__file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(program: subprocess.Popen) -> dict:
    out, errors = program.communicate()
    assert program.returncode == 0, errors[-3000:]
    return json.loads(out.splitlines()[-1])


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


def test_four_devices_and_two_processes_of_two(one, base_folder, capture_folder, tmp_path):
    four = result(start(4, base_folder, capture_folder, tmp_path, "pmap,fsdp"))
    assert (four["devices"], four["processes"]) == (4, 1)
    for way in ("pmap", "fsdp"):
        check(f"{way} on four devices", four[way], one)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = (base_folder, capture_folder, tmp_path / "two", "pmap,fsdp", f"localhost:{port}", 2)
    programs = [start(2, *arguments, number) for number in range(2)]
    for two in map(result, programs):
        assert (two["devices"], two["processes"]) == (4, 2)
        for way in ("pmap", "fsdp"):
            check(f"{way} in two processes", two[way], one)
