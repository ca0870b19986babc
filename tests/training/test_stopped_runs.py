"""Runs that are killed or asked to stop: they go on, and end with the parameters of one that nothing disturbed."""

import random
import signal
import subprocess
import time
from pathlib import Path

import programs
import pytest
import toy_run

STEPS = 300


@pytest.fixture
def start():
    """Starts the toy run in a folder; what still runs at the end is killed."""
    with programs.killed_at_the_end() as start:
        yield lambda folder, loader_processes=0: start(toy_run, folder, STEPS, loader_processes)


def last_step(folder: Path) -> int:
    """Of the log, which has a line for each; 0 where there is none."""
    log = folder / "log.jsonl"
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def wait_for_steps(program: subprocess.Popen, folder: Path, since: int) -> None:
    """Until the run has come further than `since`."""
    deadline = time.monotonic() + 300
    while last_step(folder) <= since and program.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def result(program: subprocess.Popen) -> str:
    ((line, _),) = programs.finish(program)
    return line


def killed_at_random(start, tmp_path: Path, kills: int, loader_processes: int = 0) -> None:
    whole = result(start(tmp_path / "whole"))
    assert whole.startswith("finished")
    # Another seed each time: the moments differ anyway.
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    before = 0
    for _ in range(kills):
        program = start(tmp_path / "killed", loader_processes)
        wait_for_steps(program, tmp_path / "killed", before)
        time.sleep(moments.uniform(0, 1.5 * STEPS * 0.01 / kills))
        program.kill()
        # Processes that make batches hold the pipe until they end too.
        program.communicate(timeout=60)
        before = min(last_step(tmp_path / "killed"), STEPS - 20)
    assert result(start(tmp_path / "killed", loader_processes)) == whole


def test_killed_at_random(start, tmp_path):
    killed_at_random(start, tmp_path, 3)


@pytest.mark.slow
def test_killed_at_random_twenty_times(start, tmp_path):
    killed_at_random(start, tmp_path, 20)


@pytest.mark.slow
def test_killed_at_random_twenty_times_with_processes_that_make_batches(start, tmp_path):
    killed_at_random(start, tmp_path, 20, loader_processes=2)


def test_a_signal_to_stop_loses_nothing(start, tmp_path):
    whole = result(start(tmp_path / "whole"))
    program = start(tmp_path / "stopped")
    wait_for_steps(program, tmp_path / "stopped", 20)
    program.send_signal(signal.SIGTERM)
    # As a batch system waits before it kills.
    out, _ = program.communicate(timeout=30)
    assert program.returncode == 128 + signal.SIGTERM
    step = last_step(tmp_path / "stopped")
    assert f"stopped at step {step}; the state after step {step} is saved" in out
    assert result(start(tmp_path / "stopped")) == whole
