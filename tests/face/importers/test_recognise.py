"""Which tool wrote a file or folder, and what is said where none did."""

from pathlib import Path

import numpy as np
import pytest

from svp_jax.errors import UserError
from svp_jax.face.importers.recognise import TOOLS, import_parameters, recognise

DECA = ("shape", "exp", "pose", "cam", "tform")
VHAP = ("shape", "expr", "rotation", "translation", "neck_pose", "jaw_pose", "eyes_pose")
SMIRK = ("shape_params", "expression_params", "pose_params", "jaw_params", "cam", "tform")


def save(path, names):
    np.savez(path, **{name: np.zeros(1) for name in names})
    return path


def test_files_by_their_fields(tmp_path):
    assert recognise(save(tmp_path / "a.npz", (*DECA, "image_size", "tex"))) == "deca"
    assert recognise(save(tmp_path / "b.npz", (*SMIRK, "image_size"))) == "smirk"
    assert recognise(save(tmp_path / "c.npz", (*VHAP, "lights"))) == "vhap"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (DECA[:-1], "is nearest to the output of deca, but lacks tform; save these too"),
        (("shape", "exp", "pose"), "is nearest to the output of deca, but lacks cam, tform"),
        (SMIRK[1:], "is nearest to the output of smirk, but lacks shape_params"),
        (("rotation", "expr", "shape", "jaw_pose"), "is nearest to the output of vhap, but lacks eyes_pose, neck_pose"),
        (("a", "b"), "is not the output of deca, spectre, emoca, smirk, vhap, metrical-tracker"),
    ],
)
def test_the_nearest_is_named(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        recognise(save(tmp_path / "x.npz", names))


def test_what_is_no_tool_s_output(tmp_path, model):
    for path in (tmp_path, tmp_path / "x.mp4"):
        if path.suffix:
            path.write_bytes(b"")
        with pytest.raises(UserError, match="is not the output of"):
            import_parameters(path, model)
    with pytest.raises(UserError, match="no such file or folder; give the output of deca"):
        import_parameters(tmp_path / "none", model)
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"x\.npz is not a readable \.npz file"):
        import_parameters(tmp_path / "x.npz", model)


def test_deca_s_own_files_hold_no_codes(tmp_path, model):
    (tmp_path / "face").mkdir()
    (tmp_path / "face" / "face.mat").write_bytes(b"")
    for path in (tmp_path, tmp_path / "face" / "face.mat"):
        with pytest.raises(UserError, match=r"holds vertices and no codes; save these as docs/importers\.md says"):
            import_parameters(path, model)


def test_another_tool_s_name(tmp_path, model):
    path = save(tmp_path / "x.npz", DECA)
    with pytest.raises(UserError, match="looks like the output of deca, not of smirk; give that, or no tool"):
        import_parameters(path, model, "smirk")
    with pytest.raises(UserError, match="tool deka: did you mean deca"):
        import_parameters(path, model, "deka")
    assert list(TOOLS) == ["deca", "spectre", "emoca", "smirk", "vhap", "metrical-tracker"]


def test_the_page_that_messages_name():
    """Lists every tool and every field that must be saved."""
    page = (Path(__file__).parents[3] / "docs" / "importers.md").read_text()
    assert all(f"`{name}`" in page for name in {*TOOLS, *DECA, *SMIRK, *VHAP})
