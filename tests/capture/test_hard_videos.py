"""The hard videos through the command line, as a user runs it: exit code, one line on stderr, what is left."""

import sys
import warnings

import pytest

from svp_jax import cli
from svp_jax.capture.capture import open_capture


@pytest.fixture
def svp_prepare(shared, tmp_path, monkeypatch, capsys):
    """(name of a hard video, *flags) -> (exit code, lines on stderr, the capture's folder)."""
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("TF_CPP_MIN_LOG_LEVEL", "GLOG_minloglevel", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.setenv(name, "3" if "CACHE" not in name else str(tmp_path / "cache"))

    def run(name, *flags):
        out = tmp_path / "capture"
        video = shared / "videos" / "hard" / name
        monkeypatch.setattr(sys, "argv", ["svp", "prepare", str(video), "--out", str(out), "--size", "64", *flags])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code
        return code, capsys.readouterr().err.splitlines(), out

    return run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_face.mp4", "no face in any of its 10 frames"),
        ("not_a_video.mp4", "cannot be read as a video"),
        ("truncated_no_index.mp4", "cannot be read as a video"),
    ],
)
def test_what_cannot_be_used_is_one_error(svp_prepare, tmp_path, name, words):
    code, lines, _ = svp_prepare(name)
    assert code == 2
    assert len(lines) == 1 and lines[0].startswith("svp: error: ") and name in lines[0] and words in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "flags", "warned"),
    [
        ("truncated.mp4", (), "truncated.mp4 is damaged"),
        ("variable_rate.mkv", (), "times are not those of 25 frames/s"),
        ("odd_size.mp4", ("--seconds", "0.4"), None),
        ("two_faces.mp4", ("--seconds", "0.4"), None),
        ("face_leaves.mp4", ("--start", "1.6", "--seconds", "0.8"), None),
    ],
)
def test_what_can_be_used_gives_a_capture_and_at_most_one_warning(svp_prepare, name, flags, warned):
    code, lines, out = svp_prepare(name, *flags)
    assert code == 0
    if warned is None:
        assert lines == []
    else:
        assert len(lines) == 1 and lines[0].startswith("svp: warning: ") and warned in lines[0]
    assert open_capture(out).usable.any()
