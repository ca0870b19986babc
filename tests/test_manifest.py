"""Manifests, and folders that are finished or not there."""

import errno
import fcntl
import json
import shutil

import pytest

from svp_jax.errors import UserError
from svp_jax.manifest import (
    UNFINISHED,
    check_output,
    partial_folder,
    read_manifest,
    sha256_file,
    sha256_folder,
    staged_folder,
    write_json,
    write_manifest,
)

BODY = {"size": 64, "nested": {"share": 0.1, "names": ["a", "b"]}}


def test_what_is_written_is_read(tmp_path):
    write_manifest(tmp_path, "capture", BODY)
    manifest = read_manifest(tmp_path, "capture")
    assert BODY.items() <= manifest.items()
    assert manifest["kind"] == "capture"
    assert manifest["schema_version"] == 1


def test_values_that_json_changes_are_no_edit(tmp_path):
    """Tuples become lists and numbers as keys become texts, which sort in another order."""
    write_manifest(tmp_path, "render", {"span": (1, 2), "by_number": {2: "b", 10: "c", 1: "a"}, "none": float("nan")})
    assert read_manifest(tmp_path, "render")["by_number"] == {"1": "a", "2": "b", "10": "c"}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: m | {"size": 128}, "was edited: its content does not match"),
        (lambda m: {k: v for k, v in m.items() if k != "manifest_sha256"}, "was edited"),
        (lambda m: m | {"nested": m["nested"] | {"share": 0.2}}, "was edited"),
        (lambda m: m | {"kind": "avatar"}, "says kind 'avatar', expected 'capture'"),
        (lambda m: m | {"schema_version": 2}, "schema_version 2, this program reads 1"),
        (lambda m: [m], "not valid JSON"),
    ],
)
def test_edited_manifests(tmp_path, edit, words):
    write_manifest(tmp_path, "capture", BODY)
    path = tmp_path / "capture.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=words) as error:
        read_manifest(tmp_path, "capture")
    assert str(path) in str(error.value)


def test_reformatting_is_no_edit(tmp_path):
    write_manifest(tmp_path, "capture", BODY)
    path = tmp_path / "capture.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items()))))
    assert read_manifest(tmp_path, "capture")["size"] == 64


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_no_json(tmp_path, content):
    (tmp_path / "capture.json").write_bytes(content)
    with pytest.raises(UserError, match=r"capture\.json is not valid JSON .*make the capture again"):
        read_manifest(tmp_path, "capture")


def test_folders_without_a_manifest(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"not a finished capture: it has no capture\.json"):
        read_manifest(tmp_path, "capture")
    with pytest.raises(UserError, match="no such folder"):
        read_manifest(tmp_path / "none", "capture")
    partial_folder(tmp_path / "half").mkdir()
    with pytest.raises(UserError, match=r"half\.partial is unfinished"):
        read_manifest(tmp_path / "half", "capture")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="not a finished capture"):
        read_manifest(".", "capture")


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"a\.json: cannot write \(No space left"):
        patch.setattr("pathlib.Path.replace", full_disk)
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_hashes(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b").write_bytes(b"abc")
    # The test vector of FIPS 180-2.
    assert sha256_file(tmp_path / "x" / "b").startswith("ba7816bf8f01cfea")
    first = sha256_folder(tmp_path)
    (tmp_path / "x" / "b").rename(tmp_path / "x" / "c")
    renamed = sha256_folder(tmp_path)
    (tmp_path / "x" / "c").write_bytes(b"abd")
    assert len({first, renamed, sha256_folder(tmp_path)}) == 3
    (tmp_path / "x" / "c").write_bytes(b"abc")
    (tmp_path / "x" / "c").rename(tmp_path / "x" / "b")
    assert sha256_folder(tmp_path) == first


def test_a_staged_folder_appears_when_it_is_finished(tmp_path):
    out = tmp_path / "deep" / "out"
    with staged_folder(out, "render", force=False) as folder:
        (folder / "file").write_text("new")
        assert not out.exists()
    assert (out / "file").read_text() == "new"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_error_leaves_nothing_or_what_a_resume_needs(tmp_path):
    out = tmp_path / "out"
    for resume, left in ((False, []), (True, ["out.partial"])):
        with pytest.raises(KeyboardInterrupt), staged_folder(out, "render", force=False, resume=resume) as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt
        assert [path.name for path in tmp_path.iterdir()] == left
    with staged_folder(out, "render", force=False, resume=True) as folder:
        assert (folder / "file").read_text() == "half"
    # Without `resume` what was left is no part of the new result.
    write_manifest(out, "render", {})
    leave_unfinished(out, "render")
    with staged_folder(out, "render", force=True):
        pass
    assert list(out.iterdir()) == []


def leave_unfinished(out, kind):
    """What a killed run leaves."""
    partial = partial_folder(out)
    (partial / "deep").mkdir(parents=True)
    (partial / UNFINISHED).write_text(kind)
    (partial / "deep" / "old").touch()


def test_an_unfinished_result_of_another_kind_is_left_alone(tmp_path):
    leave_unfinished(tmp_path / "out", "avatar")
    with pytest.raises(UserError, match="is an unfinished avatar"), staged_folder(tmp_path / "out", "render", True):
        raise AssertionError("must not start")
    assert (partial_folder(tmp_path / "out") / "deep" / "old").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_folder_of_the_partial_name_is_left_alone(resume, tmp_path):
    partial = partial_folder(tmp_path / "out")
    partial.mkdir()
    (partial / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="in the way"), staged_folder(tmp_path / "out", "render", True, resume):
        raise AssertionError("must not start")
    assert [path.name for path in partial.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_do_not_write_the_same_result(resume, tmp_path):
    out = tmp_path / "out"
    with staged_folder(out, "render", force=False, resume=resume) as folder:
        (folder / "file").write_text("first")
        with pytest.raises(UserError, match="being written by another run"), staged_folder(out, "render", True, resume):
            raise AssertionError("must not start")
        assert (folder / "file").read_text() == "first"
    assert [path.name for path in out.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_locked_warns(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"),
        staged_folder(tmp_path / "out", "render", force=False),
    ):
        pass
    assert (tmp_path / "out").is_dir()


def test_a_kill_while_the_old_result_goes_leaves_the_new_one(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    write_manifest(out, "render", {})
    rmtree = shutil.rmtree

    def killed(path, *args, **kwargs):
        if (path / "render.json").exists():
            raise KeyboardInterrupt
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt), staged_folder(out, "render", force=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"]
    monkeypatch.undo()
    write_manifest(out, "render", {})
    with staged_folder(out, "render", force=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "file", ["mine", "render.json", "capture.json"], ids=["foreign", "foreign of the same name", "of another command"]
)
def test_force_replaces_results_of_its_own_kind_only(tmp_path, file):
    (tmp_path / file).write_text('{"kind": "capture"}')
    with (
        pytest.raises(UserError, match="holds no render of this program"),
        staged_folder(tmp_path, "render", force=True),
    ):
        raise AssertionError("must not start")
    assert (tmp_path / file).exists()


def test_force_replaces_only_at_the_end(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    write_manifest(out, "render", {})
    with pytest.raises(UserError, match=r"--out .*out exists; add --force"), staged_folder(out, "render", force=False):
        raise AssertionError("must not start")
    with pytest.raises(ZeroDivisionError), staged_folder(out, "render", force=True):
        raise ZeroDivisionError
    assert (out / "old").exists()
    with staged_folder(out, "render", force=True) as folder:
        assert (out / "old").exists()
        (folder / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"]


def test_outputs_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"--out .*cannot write there"),
        staged_folder(tmp_path / "file" / "out", "render", False),
    ):
        raise AssertionError("must not start")
    with pytest.raises(UserError, match="is a file; a folder is written there"):
        check_output(tmp_path / "file", "render", force=True)


def test_an_empty_folder_may_be_filled(tmp_path):
    assert check_output(tmp_path, "render", force=False) == tmp_path.with_name(tmp_path.name + ".partial")
    with staged_folder(tmp_path, "render", force=False) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_cannot_be_renamed_onto_is_refused_at_the_start(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for out in (".", tmp_path / "empty", tmp_path / "link"):
        with pytest.raises(UserError, match="name a folder of its own"):
            check_output(out, "render", force=True)
    assert partial_folder("..") == tmp_path.with_name(tmp_path.name + ".partial")
