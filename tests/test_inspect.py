"""`svp inspect` on everything but avatars, which tests/training has."""

import hashlib
import json
import shutil

import pytest
from factories import make_base, make_capture
from safetensors.numpy import load_file, save_file

from svp_jax.errors import UserError
from svp_jax.inspect import inspect
from svp_jax.manifest import DEMO_PROGRESS, write_manifest

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "base")


def test_a_base(base_folder, capsys):
    assert inspect(base_folder) == []
    printed = capsys.readouterr().out
    assert printed.startswith(f"base {base_folder}\n")
    for words in ("UNet, ", "VAE, ", "TextEncoder, ", "epsilon prediction", "514 tokens", "sha256"):
        assert words in printed


def test_a_base_with_a_missing_tensor(base_folder, tmp_path, capsys):
    base = shutil.copytree(base_folder, tmp_path / "base")
    tensors = load_file(base / "unet" / WEIGHTS)
    del tensors["conv_in.bias"]
    save_file(tensors, base / "unet" / WEIGHTS)
    shutil.rmtree(base / "vae")
    missing, absent = inspect(base)
    assert "missing tensors: conv_in.bias" in missing
    assert "vae" in absent
    # What is well is still shown.
    assert "TextEncoder, " in capsys.readouterr().out


def test_a_base_with_a_bad_scheduler(base_folder, tmp_path):
    base = shutil.copytree(base_folder, tmp_path / "base")
    path = base / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    (problem,) = inspect(base)
    assert "prediction_type is 'sample'" in problem


def test_one_model(base_folder, capsys):
    assert inspect(base_folder / "vae") == []
    assert "VAE, " in capsys.readouterr().out


def test_a_capture(tmp_path, capsys):
    capture = make_capture(tmp_path / "capture", 10)
    assert inspect(capture) == []
    printed = capsys.readouterr().out
    assert printed.startswith(f"capture {capture}\n")
    assert "frame_rate                       25\n" in printed
    image = capture / "parsing" / "000003.png"
    image.write_bytes((capture / "parsing" / "000004.png").read_bytes())
    assert inspect(capture) == ["parsing was changed after it was made"]
    image.unlink()
    (problem,) = inspect(capture)
    assert "1 of 10 images are missing, the first is 000003.png" in problem


def test_an_edited_manifest_is_shown_and_named(tmp_path, capsys):
    capture = make_capture(tmp_path / "capture", 10)
    path = capture / "capture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": 512}))
    (problem,) = inspect(capture)
    assert "was edited" in problem
    assert "size                             512\n" in capsys.readouterr().out
    path.write_text("{")
    (problem,) = inspect(capture)
    assert "not valid JSON" in problem


def test_a_render_and_a_report(tmp_path, capsys):
    files = {name: hashlib.sha256(b"video").hexdigest() for name in ("avatar.mp4", "side_by_side.mp4")}
    write_manifest(tmp_path, "render", {"settings": {"seed": 3}, "frames": list(range(20)), "files": files})
    assert inspect(tmp_path) == ["avatar.mp4 is missing", "side_by_side.mp4 is missing"]
    printed = capsys.readouterr().out
    assert "settings.seed                    3\n" in printed
    assert "frames                           20 values\n" in printed
    for name in files:
        (tmp_path / name).write_bytes(b"video")
    assert inspect(tmp_path) == []
    (tmp_path / "avatar.mp4").write_bytes(b"")
    assert inspect(tmp_path) == ["avatar.mp4 was changed after it was made"]
    (tmp_path / "render.json").unlink()
    report = {
        "methods": {"result": {"pairing": "by position", "protocol_sha256": "0"}},
        "protocol": {"size": [64, 64], "frames_scored": 3, "frames_of_the_references_training_split": 2},
        "protocol_sha256": "0",
        "left_out": {"fid": "no weights"},
        "scores": {"result": {"full": {"psnr": 30.25}}},
        "per_frame": {"result": {"full": {"psnr": [30, 30.25, 30.5]}}},
    }
    write_manifest(tmp_path, "report", report)
    (tmp_path / "frames.csv").touch()
    missing = ["contact_sheet.png", "report.html", "table.md", "table.tex"]
    capsys.readouterr()
    assert inspect(tmp_path) == [f"{name} is missing" for name in missing]
    printed = capsys.readouterr().out
    assert "30.25" in printed and "left out, FID: no weights" in printed and "per_frame" not in printed
    assert "2 of the frames are of the reference's training part" in printed


def test_what_it_does_not_know(tmp_path):
    with pytest.raises(UserError, match=r"is no base, model, .*avatar.*: it has none of .*avatar\.json"):
        inspect(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        inspect(tmp_path / "none")
    (tmp_path / DEMO_PROGRESS).touch()
    with pytest.raises(UserError, match="unfinished demo"):
        inspect(tmp_path)
    (tmp_path / "x.partial").mkdir()
    for name in ("x", "x.partial"):
        with pytest.raises(UserError, match="is unfinished"):
            inspect(tmp_path / name)
