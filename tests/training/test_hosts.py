"""Several processes as one run: how they are found, and what two of them do."""

import json
import signal
import subprocess
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import processes_run
import programs
import pytest

from svp_jax.errors import UserError
from svp_jax.training import hosts, launchers
from svp_jax.training.launchers import Place, launched

SRUN = {
    "SLURM_JOB_ID": "70001",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[007-009,012],other",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
MPIRUN = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "12"}
FLAGS = {"coordinator": "localhost:8476", "processes": 2, "process": 0}


@pytest.fixture
def initialized(monkeypatch):
    """What JAX was told, which is not done."""
    for name in (*SRUN, *MPIRUN, *POD):
        monkeypatch.delenv(name, raising=False)
    told = {}

    def initialize(coordinator, processes, process, **options):
        told.update(options, coordinator=coordinator, processes=processes, process=process)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return told


def started_by(monkeypatch, environment: dict) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_no_launcher_is_one_process(initialized):
    assert launched({}) is None
    hosts.connect()
    assert not initialized


def test_a_process_of_each_machine_gets_all_its_gpus():
    """70001 is 369 modulo 4096."""
    assert launched(SRUN) == Place("SLURM", f"gpu007:{61440 + 369}", 4, 2, None)


@pytest.mark.parametrize(
    "nodes, first",
    [("one", "one"), ("one,two", "one"), ("n[3-9]", "n3"), ("n[04,07-08]", "n04"), ("a-b[1-2],c[3-4]", "a-b1")],
)
def test_process_0_is_on_the_first_node(nodes, first):
    assert launched({**SRUN, "SLURM_STEP_NODELIST": nodes}).coordinator.split(":")[0] == first


def test_processes_that_share_a_machine_take_a_gpu_each():
    shared = {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "1,3", "SLURM_LOCALID": "2"}
    assert launched(shared).gpu == 2
    assert launched({**shared, "CUDA_VISIBLE_DEVICES": "0,1,2"}).gpu == 2
    # SLURM has given it one already (--gpus-per-task).
    assert launched({**shared, "CUDA_VISIBLE_DEVICES": "2"}).gpu is None


def test_a_job_of_several_tasks_without_srun_trains_alone_and_says_so():
    batch = {name: value for name, value in SRUN.items() if "STEP" not in name}
    with pytest.warns(UserWarning, match="4 tasks, but srun did not start this one.*put srun before svp"):
        assert launched(batch) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert launched({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}) is None


def test_open_mpi_tells_the_address_up_to_version_4():
    """1531576320 is 4096 * 373920, and that is 1184 modulo 4096."""
    assert launched(MPIRUN) == Place("Open MPI", f"10.96.0.1:{61440 + 1184}", 8, 5, 1)
    assert launched({**MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}).gpu is None
    six = {**MPIRUN, "OMPI_MCA_orte_hnp_uri": "4096.0;tcp6://[fe80::1,2620::2]:43370"}
    assert launched(six).coordinator == "[fe80::1]:61441"
    del six["OMPI_MCA_orte_hnp_uri"]
    assert launched(six).coordinator is None
    # mpirun may itself run in srun.
    assert launched({**SRUN, **MPIRUN}).launcher == "Open MPI"


@pytest.mark.parametrize(
    "name, coordinator",
    [
        ("train-12.pods.default.svc.cluster.local", "train-0.pods.default.svc.cluster.local:61440"),
        ("train-12", None),
        ("some-pod.default", None),
    ],
)
def test_a_pod_of_an_indexed_job(monkeypatch, name, coordinator):
    monkeypatch.setattr(launchers.socket, "getfqdn", lambda: name)
    assert launched(POD) == Place("Kubernetes", coordinator, None, 12)
    assert launched({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None


def test_what_jax_is_told(initialized, monkeypatch):
    hosts.connect(**FLAGS)
    expected = {"coordinator": "localhost:8476", "processes": 2, "process": 0, "local_device_ids": None}
    assert expected.items() <= initialized.items()
    # Its own search would give each process of SLURM one GPU, flags or not.
    assert initialized["cluster_detection_method"] == "deactivate"
    started_by(monkeypatch, MPIRUN)
    hosts.connect()
    expected = {"coordinator": launched().coordinator, "processes": 8, "process": 5, "local_device_ids": [1]}
    assert expected.items() <= initialized.items()
    hosts.connect("other:1", process=0)
    assert {"coordinator": "other:1", "processes": 8, "process": 0}.items() <= initialized.items()


def test_one_process_is_told_nothing(initialized, monkeypatch):
    started_by(monkeypatch, MPIRUN)
    hosts.connect(processes=1)
    hosts.connect("localhost:8476", 1, 0)
    assert not initialized


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"coordinator": None}, "--coordinator missing.*belong together"),
        ({"processes": None, "process": None}, "--processes and --process missing"),
        ({"coordinator": "localhost"}, "--coordinator localhost: give HOST:PORT"),
        ({"coordinator": ":8476"}, "give HOST:PORT"),
        ({"coordinator": "localhost:99999"}, "give HOST:PORT"),
        ({"processes": 0}, "--processes 0: allowed are 1 or more"),
        ({"process": 2}, "--process 2: allowed are 0 to 1, as --processes is 2"),
        ({"process": -1}, "--process -1: allowed are 0 to 1"),
        ({"processes": 1, "process": 1}, "--process 1: allowed is 0, as --processes is 1"),
    ],
)
def test_wrong_flags(initialized, changes, message):
    with pytest.raises(UserError, match=message):
        hosts.connect(**{**FLAGS, **changes})
    assert not initialized


def test_what_a_launcher_does_not_tell_is_asked_for(initialized, monkeypatch):
    monkeypatch.setattr(launchers.socket, "getfqdn", lambda: "train-12.pods")
    started_by(monkeypatch, POD)
    with pytest.raises(UserError, match=r"^--processes missing: Kubernetes does not tell; or give --processes 1"):
        hosts.connect()
    hosts.connect(processes=16)
    assert {"coordinator": "train-0.pods:61440", "processes": 16, "process": 12}.items() <= initialized.items()


def test_a_process_0_that_is_not_there(initialized, monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: deadline\nstack")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=r"2 processes do not find each other at localhost:8476: DEADLINE.*deadline;"):
        hosts.connect(**FLAGS)


def test_ctrl_c_is_a_sigterm_and_the_next_one_ends_the_process(monkeypatch):
    sent = []
    monkeypatch.setattr(hosts.os, "kill", lambda process, number: sent.append(number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), hosts.interrupt_stops_all():
            signal.raise_signal(signal.SIGINT)
            assert sent == [signal.SIGTERM]
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # In the background of a script it stays ignored.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with hosts.interrupt_stops_all():
            signal.raise_signal(signal.SIGINT)
        assert sent == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def start():
    """Starts the program in a folder on so many devices; what still runs at the end is killed."""
    with programs.killed_at_the_end() as start:
        yield lambda folder, devices, *arguments, seconds=0.0: start(
            processes_run, folder, 120, seconds, *arguments, devices=devices
        )


@pytest.fixture(scope="module")
def start_two(start):
    """Starts both processes."""

    def both(folder: Path, **options) -> list[subprocess.Popen]:
        address = f"localhost:{programs.free_port()}"
        return [start(folder, 2, address, 2, number, **options) for number in range(2)]

    return both


def results(*started: subprocess.Popen) -> list[tuple[dict, str]]:
    """What each printed, and its errors."""
    return [(json.loads(line), errors) for line, errors in programs.finish(*started)]


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines) if "loss" in entry}


@pytest.fixture(scope="module")
def untroubled(start_two, tmp_path_factory):
    """Two processes from start to end: their folder, and what they trained."""
    folder = tmp_path_factory.mktemp("two")
    (first, said), (second, also_said) = results(*start_two(folder))
    assert (first["process"], second["process"]) == (0, 1) and first["devices"] == second["devices"] == 4
    assert first["trained"] == second["trained"]
    # What only process 0 finds wrong ends all alike.
    assert first["told"] == second["told"] == "--out of process 0 – no"
    assert "second: what is trained" in said
    # The line of gloo, which connects CPUs, is not ours.
    assert [line for line in also_said.splitlines() if "Gloo" not in line] == []
    return folder, first["trained"]


def test_two_processes_train_as_one(untroubled, start, tmp_path):
    two, trained = untroubled
    ((one, _),) = results(start(tmp_path, 4))
    np.testing.assert_allclose(one["trained"], trained, atol=1e-6)
    for name in ("first", "second"):
        traces = losses(two / name), losses(tmp_path / name)
        assert traces[0].keys() == traces[1].keys() == set(range(1, 121))
        np.testing.assert_allclose(list(traces[0].values()), list(traces[1].values()), atol=1e-6)
        # One log, one set of checkpoints.
        assert len(list((two / name / "tensorboard").iterdir())) == 1
        assert sorted(path.name for path in (two / name / "checkpoints").iterdir()) == ["100", "120"]


@pytest.mark.parametrize(
    ("number", "sent"),
    [pytest.param(0, signal.SIGTERM, marks=pytest.mark.slow), (1, signal.SIGTERM), (0, signal.SIGINT)],
)
def test_a_signal_to_one_stops_both_and_a_rerun_ends_bit_equal(untroubled, start_two, tmp_path, number, sent):
    """In the second stage, where the steps are fewer than those counted before."""
    both = start_two(tmp_path, seconds=0.02)
    log = tmp_path / "second" / "log.jsonl"
    deadline = time.monotonic() + 200
    while not (log.exists() and len(log.read_text().splitlines()) > 10):
        assert all(program.poll() is None for program in both) and time.monotonic() < deadline
        time.sleep(0.05)
    both[number].send_signal(sent)
    (first, _), (second, _) = results(*both)
    assert first["stopped"] == second["stopped"] and first["signal"] == signal.SIGTERM
    step = max(int(path.name) for path in (tmp_path / "second" / "checkpoints").iterdir())
    assert 10 < step < 120 and f"stopped at step {step}; the state after step {step} is saved" in first["stopped"]
    (first, said), (second, _) = results(*start_two(tmp_path))
    assert f"second: goes on from step {step}" in said
    assert first["trained"] == second["trained"] == untroubled[1]
    assert losses(tmp_path / "second") == losses(untroubled[0] / "second")
