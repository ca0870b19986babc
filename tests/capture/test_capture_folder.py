import json
from fractions import Fraction

import numpy as np
import pytest

from svp_jax.capture.capture import CaptureWriter, open_capture
from svp_jax.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 4, 64, 64, 3)).astype(np.uint8)
SHOT = np.array([0, 0, 0, -1, 1, 1, 1, 1, -1, 1])
INFO = {
    "source": {"name": "a.mp4"},
    "frame_rate": Fraction(30000, 1001),
    "face_model": "synthetic",
    "parser": "truth",
    "test_fraction": 0.4,
}


@pytest.fixture
def folder(tmp_path):
    writer = CaptureWriter(tmp_path, 64)
    for images in IMAGES:
        writer.add(*images)
    writer.finish({"landmarks": RNG.normal(size=(10, 478, 3)), "shot": SHOT}, INFO)
    return tmp_path


def test_round_trip(folder):
    capture = open_capture(folder)
    assert (capture.size, capture.frame_count, capture.frame_rate) == (64, 10, Fraction(30000, 1001))
    for index, read in enumerate((capture.frames, capture.parsing, capture.geometry, capture.iris)):
        assert (read([7, 2]) == IMAGES[[7, 2], index]).all()
    assert capture.landmarks.shape == (10, 478, 3) and capture.landmarks.dtype == np.float32
    assert capture.audio_path is None and capture.damaged_files() == []
    assert capture.tracking()["source_time"][3] == pytest.approx(3 * 1001 / 30000)


def test_split_is_by_time_and_leaves_unusable_frames_out(folder):
    capture = open_capture(folder)
    assert capture.manifest["split"] == {"train": [0, 6], "test": [6, 10]}
    assert capture.train_indices.tolist() == [0, 1, 2, 4, 5]
    assert capture.test_indices.tolist() == [6, 7, 9]


def test_both_showings_of_a_source_frame_are_on_one_side(tmp_path):
    writer = CaptureWriter(tmp_path, 64)
    for images in IMAGES:
        writer.add(*images)
    source = np.array([0, 1, 2, 3, 4, 5, 5, 5, 6, 7])
    writer.finish({"landmarks": RNG.normal(size=(10, 478, 3)), "shot": SHOT, "source_frame": source}, INFO)
    assert open_capture(tmp_path).manifest["split"] == {"train": [0, 8], "test": [8, 10]}


def test_changed_content_is_noticed(folder):
    (folder / "iris" / "000003.png").write_bytes((folder / "iris" / "000004.png").read_bytes())
    assert open_capture(folder).damaged_files() == ["iris"]


def test_edited_manifest_is_refused(folder):
    path = folder / "capture.json"
    manifest = json.loads(path.read_text())
    manifest["frame_rate"] = "25"
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"capture\.json was edited"):
        open_capture(folder)


@pytest.mark.parametrize(
    "name, message",
    [
        ("geometry/000005.png", "1 of 10 images are missing, the first is 000005.png"),
        ("tracking.npz", "tracking.npz is missing"),
        ("capture.json", "is not a finished capture"),
    ],
)
def test_missing_files_are_named(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(UserError, match=message):
        open_capture(folder)


def test_broken_tracking_is_refused(folder):
    (folder / "tracking.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(UserError, match=r"tracking\.npz cannot be read"):
        open_capture(folder)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="gone: no such folder; give the folder of a capture"):
        open_capture(tmp_path / "gone")


@pytest.mark.parametrize("size", [0, 63, 100, -64])
def test_sizes_are_multiples_of_64(tmp_path, size):
    with pytest.raises(UserError, match=rf"--size {size}: allowed are multiples of 64"):
        CaptureWriter(tmp_path, size)


def test_wrong_images_and_lengths_are_refused(tmp_path):
    writer = CaptureWriter(tmp_path, 64)
    with pytest.raises(ValueError, match="parsing"):
        writer.add(IMAGES[0, 0], IMAGES[0, 1, :32], IMAGES[0, 2], IMAGES[0, 3])
    writer = CaptureWriter(tmp_path, 64)
    writer.add(*IMAGES[0])
    with pytest.raises(ValueError, match=r"landmarks.*2 frames, but 1"):
        writer.finish({"landmarks": np.zeros((2, 478, 3)), "shot": np.zeros(1)}, INFO)
