"""Checkpoints: the same state comes back on any devices, or an older one, never a wrong one."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import checkpoint_programs
import jax
import numpy as np
import programs
import pytest
from checkpoint_programs import ABOUT, check_state, devices_sharding, like, next_state, state_at

from svp_jax.errors import UserError
from svp_jax.training.saving import checkpoint_files, checkpoints
from svp_jax.training.saving.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def one():
    return devices_sharding(1)


@pytest.fixture(scope="module")
def two_saved(one, tmp_path_factory):
    """Steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    save(folder, 1, 2, one=one)
    return folder


@pytest.fixture
def folder(two_saved, tmp_path):
    """A copy of them."""
    return shutil.copytree(two_saved, tmp_path / "checkpoints")


def save(folder, *steps, one):
    writer = Checkpoints(folder)
    for step in steps:
        writer.save(step, state_at(step, one), ABOUT)
    return writer.wait()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def program():
    """Starts one of `checkpoint_programs`; what still runs at the end is killed."""
    with programs.killed_at_the_end() as start:
        yield partial(start, checkpoint_programs)


def test_what_is_saved_comes_back_though_its_buffers_were_donated(one, tmp_path):
    writer = Checkpoints(tmp_path)
    assert writer.restore(like(one), ABOUT) is None
    assert writer.wait() is None
    state = state_at(0, one)
    for step in range(1, 6):
        state = next_state(state)
        writer.save(step, state, ABOUT)
    for _ in range(5):
        state = next_state(state)
    assert writer.wait() == 5
    assert names(tmp_path) == ["4", "5"]
    found, restored = Checkpoints(tmp_path).restore(like(one), ABOUT)
    assert found == 5
    check_state(restored, 5, one)
    # What came back may be donated as well.
    check_state(next_state(restored), 6, one)


def test_other_numbers_of_devices_and_sharded_or_not(program, tmp_path):
    """Replicated on 4, 1 and 2, sharded over 4 and 2, and replicated on 4 again."""
    running = program("devices", tmp_path, devices=4)
    out, errors = running.communicate()
    assert out.split() == ["restored", "15"], errors


def test_two_processes_write_and_read_one_checkpoint(program, tmp_path):
    port = programs.free_port()
    running = [program("process", tmp_path, port, number, devices=2) for number in "01"]
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert "restored 1" in out, errors
    # The second process wrote its half of the sharded one.
    assert (tmp_path / "1" / "1" / "state" / "ocdbt.process_1").is_dir()


def test_two_stages_in_two_threads(one, tmp_path):
    def train(name):
        assert save(tmp_path / name, *range(1, 8), one=one) == 7
        return Checkpoints(tmp_path / name).restore(like(one), ABOUT)

    with ThreadPoolExecutor(2) as threads:
        for found, state in threads.map(train, ("outlines", "details")):
            assert found == 7
            check_state(state, 7, one)


def test_a_step_that_is_there_is_not_written_again(one, folder):
    before = (folder / "2" / "checkpoint.json").stat().st_ino
    writer = Checkpoints(folder)
    writer.restore(like(one), ABOUT)
    writer.save(2, state_at(2, one), ABOUT)
    assert writer.wait() == 2
    assert (folder / "2" / "checkpoint.json").stat().st_ino == before


def data_file(checkpoint):
    return max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(checkpoint):
    content = bytearray(data_file(checkpoint).read_bytes())
    content[len(content) // 2] ^= 1
    data_file(checkpoint).write_bytes(content)


def change_about(checkpoint):
    content = json.loads((checkpoint / "checkpoint.json").read_text())
    content["about"]["capture"] = "another"
    (checkpoint / "checkpoint.json").write_text(json.dumps(content))


DAMAGES = {
    "a flipped bit": (flip, "its files are not what was written"),
    "cut off": (lambda path: os.truncate(data_file(path), 1000), "its files are not what was written"),
    "a lost file": (lambda path: data_file(path).unlink(), "its files are not what was written"),
    "all files lost": (lambda path: shutil.rmtree(path / "state"), "its files are not what was written"),
    "no description": (lambda path: (path / "checkpoint.json").unlink(), "no checkpoint.json"),
    "half a description": (lambda path: os.truncate(path / "checkpoint.json", 100), "cannot be read: .*"),
    "another description": (change_about, "checkpoint.json is not what was written"),
    "an empty description": (lambda path: (path / "checkpoint.json").write_text("[]"), "cannot be read: .*"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_one_gives_way_to_the_one_before(one, folder, damage, words):
    damage(folder / "2")
    reader = Checkpoints(folder)
    with pytest.warns(
        UserWarning, match=rf"checkpoints: damaged: 2 \({words}\); going on from the .* step 1$"
    ) as warned:
        found, state = reader.restore(like(one), ABOUT)
    assert len(warned) == 1
    assert found == 1
    check_state(state, 1, one)
    # The run comes to the same step again, and now it is whole.
    reader.save(2, state_at(2, one), ABOUT)
    assert reader.wait() == 2
    assert names(folder) == ["1", "2"]
    check_state(Checkpoints(folder).restore(like(one), ABOUT)[1], 2, one)


def test_all_damaged(one, folder):
    flip(folder / "2")
    (folder / "1" / "checkpoint.json").unlink()
    with pytest.raises(
        UserError, match=r"every checkpoint is damaged \(2: its files.*, 1: no .*\); remove it to start"
    ):
        Checkpoints(folder).restore(like(one), ABOUT)
    assert names(folder) == ["1", "2"]


def test_what_does_not_fit_is_named(one, folder):
    reader = Checkpoints(folder)

    same = like(one)

    def fails(words, like=same, about=ABOUT):
        with pytest.raises(UserError, match=f"checkpoints/2 was saved with {words}; use the same settings.*remove"):
            reader.restore(like, about)

    fails(r"config.learning_rate 0.1, not 0.2", about={**ABOUT, "config": {"learning_rate": 0.2, "ema": None}})
    fails(r"config.ema None, not absent", about={**ABOUT, "config": {"learning_rate": 0.1}})
    fails(r"batch absent, not 4, capture '0a1b', not absent", about={"config": ABOUT["config"], "batch": 4})
    kernels = [
        rf"the tensor {path}\['unet/down.0/kernel'\] float32\[128, 512\], not float32\[128, 4\]"
        for path in (r"\['optimizer'\]\[1\].mu", r"\['optimizer'\]\[1\].nu", r"\['trained'\]")
    ]
    fails(", ".join(kernels), like(one, kernel_shape=(128, 4)))
    other = like(one)
    other["key"] = jax.ShapeDtypeStruct((2,), np.int32, sharding=one)
    fails(r"the tensor \['key'\] uint32\[2\], not int32\[2\]", other)
    other = like(one)
    other["ema"] = other["trained"]
    del other["flag"]
    ema = r"the tensor \['ema'\]\['unet.*'\] absent, not \w+\[.*\]"
    fails(rf"{ema}, {ema}, {ema} and 1 more", other)
    # It was the call that was wrong.
    assert reader.restore(like(one), ABOUT)[0] == 2


def test_a_file_that_cannot_be_written(one, folder):
    """The older ones stay, the run goes on and later saves work."""
    writer = Checkpoints(folder)
    writer.restore(like(one), ABOUT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.warns(
            UserWarning, match=r"step 3 could not be written \(.*File too large.*that of step 2 stays; .*GB"
        ):
            writer.save(3, state_at(3, one), ABOUT)
            assert writer.wait() == 2
        assert names(folder) == ["1", "2"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.save(4, state_at(4, one), ABOUT)
    assert writer.wait() == 4
    assert names(folder) == ["2", "4"]
    check_state(Checkpoints(folder).restore(like(one), ABOUT)[1], 4, one)


def test_a_full_disk(program, tmp_path):
    """A real one, of 3 MB, where there may be such."""
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=3m none "$0" && exec "$@"']
    if shutil.which("unshare") is None or subprocess.run([*mount, tmp_path, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    running = program("full", tmp_path / "checkpoints", before=(*mount, tmp_path))
    out, errors = running.communicate()
    assert out.split() == ["finished", "1", "1", "3"], errors
    assert re.search(
        r"step 2 could not be written \(.*No space left on device.*\); that of step 1 stays; 0.0 GB", errors
    )
    assert "ERROR:absl" not in errors


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED")])
def test_a_save_that_is_refused_at_once(one, folder, monkeypatch, error):
    def refused(*args, **kwargs):
        raise error

    writer = Checkpoints(folder)
    writer.restore(like(one), ABOUT)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match=rf"step 3 .*{error.args[-1]}.*step 2 stays"):
        patch.setattr(checkpoints.ocp.AsyncCheckpointer, "save", refused)
        writer.save(3, state_at(3, one), ABOUT)
    writer.save(4, state_at(4, one), ABOUT)
    assert writer.wait() == 4


def test_the_first_save_fails(one, tmp_path, monkeypatch):
    def refused(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "_sync", refused)
    with pytest.warns(UserWarning, match="there is no older one"):
        assert save(tmp_path / "checkpoints", 1, one=one) is None
    assert Checkpoints(tmp_path / "checkpoints").restore(like(one), ABOUT) is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dying_before_any_change_of_the_folder(one, two_saved, tmp_path, monkeypatch):
    """While step 3 is saved: before it is described, before every renaming, in every removal."""
    monkeypatch.setattr(checkpoint_files, "_sync", lambda path: None)
    ends = []
    while not ends or ends[-1] != "finished":
        folder = shutil.copytree(two_saved, tmp_path / f"{len(ends)}" / "checkpoints")
        writer = Checkpoints(folder)
        writer.restore(like(one), ABOUT)
        ends.append("finished")
        left = len(ends)

        def dying(name, change):
            def do(*args, **kwargs):
                nonlocal left
                left -= 1
                if left == 0:
                    ends[-1] = name
                if left <= 0:
                    if name == "rmtree" and args[0].exists():
                        data_file(args[0]).unlink()
                    raise SystemExit
                return change(*args, **kwargs)

            return do

        with monkeypatch.context() as patch:
            for owner, name in ((Path, "rename"), (Path, "write_text"), (shutil, "rmtree")):
                patch.setattr(owner, name, dying(name, getattr(owner, name)))
            writer.save(3, state_at(3, one), ABOUT)
            writer.close()
        reader = Checkpoints(folder)
        assert names(folder) in (["1", "2"], ["1", "2", "3"], ["2", "3"])
        found, state = reader.restore(like(one), ABOUT)
        assert found == max(map(int, names(folder)))
        check_state(state, found, one)
    print(ends)
    assert set(ends) == {"write_text", "rename", "rmtree", "finished"}
    assert names(folder) == ["2", "3"]


def test_leftovers_are_removed_and_nothing_else(one, folder):
    for name in ("3.1.new", "1.old"):
        shutil.copytree(folder / "1", folder / name)
    (folder / "notes.txt").write_text("mine")
    Checkpoints(folder)
    assert names(folder) == ["1", "2", "notes.txt"]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment(program, one, tmp_path, kills):
    rng = np.random.default_rng()
    folder, seed = tmp_path / "checkpoints", int(rng.integers(1 << 32))
    rng = np.random.default_rng(seed)
    for _ in range(kills):
        running = program("forever", folder)
        finished = [int(running.stdout.readline()) for _ in range(rng.integers(1, 3))]
        time.sleep(rng.uniform(0, 0.3))
        running.kill()
        rest, errors = running.communicate()
        assert running.returncode == -signal.SIGKILL and not errors, errors
        finished += [int(line) for line in rest.split("\n")[:-1]]
        found, state = Checkpoints(folder).restore(like(one), ABOUT)
        assert found >= max(finished), seed
        check_state(state, found, one)
        assert all(name.isdecimal() for name in names(folder)), seed
