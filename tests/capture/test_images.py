import errno
from pathlib import Path

import numpy as np
import pytest

from svp_jax.capture.images import read_png, read_pngs, write_png
from svp_jax.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 48, 3)).astype(np.uint8)


def test_png_round_trip_keeps_the_channel_order(tmp_path):
    write_png(tmp_path / "000000.png", IMAGE)
    write_png(tmp_path / "000001.png", 255 - IMAGE)
    assert (read_pngs(tmp_path, [1, 0]) == np.stack([255 - IMAGE, IMAGE])).all()
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    write_png(tmp_path / "red.png", red)
    import PIL.Image

    assert PIL.Image.open(tmp_path / "red.png").convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png: cannot read"):
        read_png(tmp_path / "gone.png")
    (tmp_path / "half.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"half\.png is not a readable image"):
        read_png(tmp_path / "half.png")


def test_full_disk_is_a_user_error(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .No space left on device"):
        write_png(tmp_path / "a.png", IMAGE)


@pytest.mark.parametrize("image", [IMAGE.astype(float), IMAGE[..., 0], np.zeros((4, 4, 4), np.uint8)])
def test_other_arrays_are_refused(tmp_path, image):
    with pytest.raises(ValueError, match="expected uint8"):
        write_png(tmp_path / "a.png", image)
