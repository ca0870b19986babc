"""Renders that were interrupted: the same command goes on, and what comes of it is the same to the byte."""

import contextlib
import random
import signal
import time

import programs
import pytest
import render_run
from factories import file_size_limit, make_capture

from svp_jax.errors import UserError
from svp_jax.manifest import PROGRESS, read_manifest
from svp_jax.rendering import render as render_module
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.progress import Progress
from svp_jax.rendering.render import content_hashes, render

# Three chunks; the last is not full, and gaps lie between and after them.
SETTINGS = {"steps": 2, "frames": "all", "chunk": 3}


@pytest.fixture
def run(quiet, avatar_folder, driver_folder, tmp_path):
    """settings -> the hashes of the files of a render into `tmp_path / name`."""

    def once(name="out", driver=driver_folder, **changes):
        out = render(avatar_folder, driver, tmp_path / name, RenderOptions(**{**SETTINGS, **changes}))
        return read_manifest(out, "render")["files"]

    return once


@pytest.fixture
def interrupted(run, monkeypatch):
    """Starts a render that ends before its chunk number `chunk` is written, or a segment's part of one."""

    def until(chunk, error=KeyboardInterrupt, **changes):
        written = []
        writer = render_module.PictureWriter if "segments" in changes else render_module.RenderWriter
        original = writer.write

        def write(self, *arguments):
            if len(written) == chunk:
                raise error
            written.append(1)
            original(self, *arguments)

        with monkeypatch.context() as patch, pytest.raises(error if isinstance(error, type) else type(error)) as caught:
            patch.setattr(writer, "write", write)
            run(**changes)
        return str(caught.value)

    return until


@pytest.mark.parametrize(
    "settings", [{}, {"maps": "driver"}, {"stage": "outlines"}, {"eta": 1.0, "noise_per_frame": True}]
)
def test_it_goes_on_after_the_last_finished_chunk(run, interrupted, tmp_path, capsys, settings):
    whole = run("whole", **settings)
    for chunk in (1, 2):
        # The second time it begins after one chunk, which its videos are made of again.
        interrupted(chunk, **settings)
        assert (tmp_path / "out.partial" / PROGRESS).exists() and not (tmp_path / "out").exists()
    assert run(**settings) == whole
    assert "going on with the unfinished run" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*whole, "render.json"])


@pytest.fixture
def written(monkeypatch):
    """The numbers of all frames whose pictures are written."""
    numbers = []
    original = render_module.PictureWriter.write

    def write(self, frames, *arguments):
        numbers.extend(frames.tolist())
        original(self, frames, *arguments)

    monkeypatch.setattr(render_module.PictureWriter, "write", write)
    return numbers


def check_segments(run, interrupted, written, tmp_path, capsys, stops, expected, **settings):
    whole = run("whole", **settings)
    # Not those of warm-ups.
    assert len(written) == len(set(written)) == read_manifest(tmp_path / "whole", "render")["rendered_frames"]
    seams = read_manifest(tmp_path / "whole", "render")["seams"]
    assert {stage: [(seam["frame"], seam["warm_up"]) for seam in found] for stage, found in seams.items()} == expected
    for parts in stops:
        interrupted(parts, **settings)
        assert (tmp_path / "out.partial" / PROGRESS).exists() and not (tmp_path / "out").exists()
    assert run(**settings) == whole
    assert capsys.readouterr().err.count("going on with the unfinished run") == len(stops)
    assert read_manifest(tmp_path / "out", "render")["seams"] == seams
    assert len(list((tmp_path / "out" / "frames").iterdir())) == 12


def test_segments_go_on_too(run, interrupted, written, tmp_path, capsys):
    """Of eight frames each, in three chunks; the second segment shows the last four of its."""
    # The first segment's part of the second chunk is written, not the second one's; then that of the third chunk.
    stops, expected = (2, 3), {"outlines": [(8, 4)], "details": [(8, 4)]}
    driver = make_capture(tmp_path / "driver", 12)
    check_segments(
        run, interrupted, written, tmp_path, capsys, stops, expected, driver=driver, segments=2, tolerance=1.0
    )


def test_a_segment_that_ends_chunks_before_the_others_goes_on_too(run, interrupted, written, tmp_path, capsys):
    """Of seven frames, in three chunks, and of two: the warm-up starts at the cut before the last frame."""
    expected = {"details": [(10, 1)]}
    check_segments(run, interrupted, written, tmp_path, capsys, (2, 1), expected, segments=2, maps="driver")


def test_without_a_finished_chunk_nothing_is_left(interrupted, tmp_path):
    interrupted(0)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_is_finished(run, monkeypatch, tmp_path):
    chunks, original = [], render_module.RenderWriter.write
    message = (
        r"out\.partial.*: cannot write .*File too large.*; what is finished is kept, then the same command goes on"
    )
    with contextlib.ExitStack() as disk, monkeypatch.context() as patch:

        def write(self, *arguments):
            chunks.append(1)
            if len(chunks) == 3:
                disk.enter_context(file_size_limit(3000))
            original(self, *arguments)

        patch.setattr(render_module.RenderWriter, "write", write)
        with pytest.raises(UserError, match=message):
            run()
    assert Progress.read(tmp_path / "out.partial").done == 6
    assert run() == run("whole")


def test_one_that_was_killed_before_it_was_renamed_is_renamed(run, monkeypatch, tmp_path):
    """Also by a command that would have taken other settings for the same: it is refused."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(render_module, "write_manifest", ends_the_program)
        run()
    with pytest.raises(UserError, match=r"unfinished run with settings.seed 0, not 3; .* --force to start anew$"):
        run(seed=3)
    assert run() == run("whole")


def ends_the_program(*arguments):
    raise KeyboardInterrupt


def test_force_goes_on_with_the_same_settings(run, interrupted, written):
    interrupted(2)
    finished = len(written)
    run(force=True)
    assert finished == 6 and len(written) == len(set(written))


def test_settings_are_free_until_a_chunk_is_finished(run, interrupted, tmp_path):
    interrupted(1)
    (tmp_path / "out.partial" / PROGRESS).unlink()
    assert run(seed=3) == run("whole", seed=3)


def test_a_damaged_state_is_named(run, interrupted, tmp_path):
    interrupted(1)
    path = tmp_path / "out.partial" / PROGRESS
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"progress\.npz is damaged .*; remove .*out\.partial to start anew"):
        run()


def test_other_settings_do_not_go_on(run, interrupted, avatar_folder):
    interrupted(1)
    message = (
        r"out\.partial is an unfinished run with settings.seed 0, not 3; use the same .*add --force to start anew$"
    )
    with pytest.raises(UserError, match=message):
        run(seed=3)
    # What only rounding depends on may change.
    run(chunk=2, batch=2)
    interrupted(1, force=True, seed=3)
    assert run(seed=4, force=True) == run("whole", seed=4)


def killed_at_random(avatar_folder, driver_folder, tmp_path, kills):
    """Each render is killed until it is finished; then the next one is, until there were so many kills."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with programs.killed_at_the_end() as start:
        programs.finish(start(render_run, avatar_folder, driver_folder, tmp_path / "whole"))
        whole = content_hashes(tmp_path / "whole")
        assert {"avatar.mp4", "frames", "parsing", "side_by_side.mp4"} == whole.keys()
        killed = number = 0
        while killed < kills or (tmp_path / f"{number}.partial").exists():
            program = start(render_run, avatar_folder, driver_folder, tmp_path / f"{number}")
            if killed < kills:
                # At its start, one of the next chunks, or its end; then a little later.
                for _ in range(moments.randrange(1, 5)):
                    program.stdout.readline()
                time.sleep(moments.uniform(0, 0.1))
                program.kill()
            _, errors = program.communicate(timeout=300)
            assert program.returncode in (0, -signal.SIGKILL), errors
            killed += program.returncode == -signal.SIGKILL
            if (tmp_path / f"{number}").exists():
                assert content_hashes(tmp_path / f"{number}") == whole
                assert read_manifest(tmp_path / f"{number}", "render")["files"] == whole
                number += 1
        print(f"{killed} kills of {number} renders")


def test_killed_at_random(avatar_folder, driver_folder, tmp_path):
    killed_at_random(avatar_folder, driver_folder, tmp_path, 3)


@pytest.mark.slow
def test_killed_at_random_twenty_times(avatar_folder, driver_folder, tmp_path):
    killed_at_random(avatar_folder, driver_folder, tmp_path, 20)
