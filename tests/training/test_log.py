"""The log: strict JSON lines, TensorBoard's files as another library reads them, resume, a full disk, peak memory."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from svp_jax.capture.images import read_png, write_png
from svp_jax.training.watching import memory_use
from svp_jax.training.watching.event_file import crc32c
from svp_jax.training.watching.log import TrainingLog
from svp_jax.training.watching.memory_use import peak_memory


def lines(folder: Path) -> list[dict]:
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    text = (folder / "log.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def event_files(folder: Path) -> list[list]:
    """The events of each file, in the order of their names; every record's checksums are compared."""
    return [list(events(path.read_bytes())) for path in sorted((folder / "tensorboard").glob("*tfevents*"))]


def events(data: bytes):
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        ends = struct.pack("<I", masked_crc32c(data[:8])), struct.pack("<I", masked_crc32c(body))
        assert (data[8:12], data[12 + length : 16 + length]) == ends
        yield event_pb2.Event.FromString(body)
        data = data[16 + length :]


def test_lines_and_events_hold_the_same_values(tmp_path):
    entries = [(10, {"loss": 0.1234567, "images": 7}), (2**33, {"loss": -1e-30, "large": 1e300, "negative": -3})]
    with TrainingLog(tmp_path, start=0) as log:
        for step, values in entries:
            log.write(step, values)
            # At once, so that a kill loses nothing.
            assert lines(tmp_path)[-1] == {"step": step, **values}
    (read,) = event_files(tmp_path)
    assert read[0].file_version == "brain.Event:2"
    assert read[1].session_log.status == event_pb2.SessionLog.START
    assert len(read) == 2 + len(entries)
    for event, (step, values) in zip(read[2:], entries, strict=True):
        assert event.step == step and event.wall_time > 1.7e9
        with np.errstate(over="ignore"):
            expected = {name: float(np.float64(value).astype(np.float32)) for name, value in values.items()}
        assert {value.tag: value.simple_value for value in event.summary.value} == expected


def test_values_that_are_not_finite_are_null_and_named(tmp_path):
    with TrainingLog(tmp_path, start=0) as log:
        log.write(3, {"loss": float("nan"), "gradient_norm": float("-inf"), "learning_rate": 0.5})
    assert lines(tmp_path) == [
        {
            "step": 3,
            "loss": None,
            "gradient_norm": None,
            "learning_rate": 0.5,
            "non_finite": {"loss": "nan", "gradient_norm": "-inf"},
        }
    ]
    values = {value.tag: value.simple_value for value in event_files(tmp_path)[0][2].summary.value}
    assert np.isnan(values["loss"]) and values["gradient_norm"] == -np.inf and values["learning_rate"] == 0.5


@pytest.mark.parametrize("value", [np.float32(1), jax.numpy.ones(()), "1", True, None])
def test_only_numbers_are_logged(tmp_path, value):
    with TrainingLog(tmp_path, start=0) as log, pytest.raises(TypeError, match=r"learning_rate is .*floats and whole"):
        log.write(1, {"loss": 0.5, "learning_rate": value})
    assert lines(tmp_path) == []


def test_pictures_are_the_files_themselves(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (3, 200, 3), dtype=np.uint8)
    write_png(tmp_path / "preview.png", image)
    with TrainingLog(tmp_path, start=0) as log:
        log.picture(5, "preview", tmp_path / "preview.png")
    event = event_files(tmp_path)[0][2]
    (value,) = event.summary.value
    assert (event.step, value.tag, value.image.height, value.image.width) == (5, "preview", 3, 200)
    assert value.image.colorspace == 3
    (tmp_path / "again.png").write_bytes(value.image.encoded_image_string)
    np.testing.assert_array_equal(read_png(tmp_path / "again.png"), image)


def test_a_resumed_run_drops_what_it_writes_again(tmp_path):
    with TrainingLog(tmp_path, start=0) as log:
        for step in (0, 4, 8, 12):
            log.write(step, {"loss": 1.0})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    with TrainingLog(tmp_path, start=8) as log:
        assert [entry["step"] for entry in lines(tmp_path)] == [0, 4, 8]
        log.write(12, {"loss": 2.0})
    assert [(entry["step"], entry["loss"]) for entry in lines(tmp_path)] == [(0, 1.0), (4, 1.0), (8, 1.0), (12, 2.0)]
    # TensorBoard drops this step of the first file, and later ones.
    assert [file[1].step for file in event_files(tmp_path)] == [0, 9]


def test_a_run_without_a_checkpoint_starts_its_log_anew(tmp_path):
    """Its step 0 too, which it previews again."""
    for _ in range(2):
        with TrainingLog(tmp_path, start=0) as log:
            log.write(0, {"mean_iou": 0.5})
            log.write(10, {"loss": 1.0})
    assert [entry["step"] for entry in lines(tmp_path)] == [0, 10]
    assert [file[1].step for file in event_files(tmp_path)] == [0, 0]


class Disk:
    """A file on a disk with room for a few more bytes."""

    def __init__(self, file, room):
        self.file, self.room, self.name = file, room, file.name

    def write(self, piece):
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = self.file.write(piece[: self.room])
        self.room -= taken
        return taken

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_leaves_gaps_and_no_halves(tmp_path, recwarn):
    with TrainingLog(tmp_path, start=0) as log:
        log.write(1, {"loss": 1.0})
        whole = log._lines, log._events
        log._lines, log._events = (Disk(file, room=5) for file in whole)
        log.write(2, {"loss": 2.0})
        log.write(3, {"loss": 3.0})
        log._lines, log._events = whole
        log.write(4, {"loss": 4.0})
    assert [entry["step"] for entry in lines(tmp_path)] == [1, 4]
    assert [event.step for event in event_files(tmp_path)[0][2:]] == [1, 4]
    (warning,) = recwarn
    assert "log.jsonl: cannot write (No space left on device); training goes on" in str(warning.message)


def test_the_checksum():
    # RFC 3720, B.4; and "123456789", of every catalogue of CRCs.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"123456789") == 0xE3069283


def test_neither_torch_nor_tensorflow_is_needed(tmp_path):
    program = (
        "import sys, pathlib; from svp_jax.training.watching.log import TrainingLog\n"
        f"with TrainingLog(pathlib.Path({str(tmp_path)!r}), 0) as log: log.write(1, {{'loss': 1.0}})\n"
        "print([name for name in ('torch', 'tensorflow', 'tensorboardX') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
    assert [entry["step"] for entry in lines(tmp_path)] == [1]


def test_peak_memory_of_this_process():
    before = peak_memory()
    # Written, or the pages would not be there.
    large = np.ones(250_000_000, np.uint8)
    after = peak_memory()
    assert 0.05 < before <= after < 200
    assert after >= large.nbytes / 1e9


@pytest.mark.parametrize(
    ("stats", "expected"),
    [([{"peak_bytes_in_use": 3e9}, {"peak_bytes_in_use": 5e9}], 5.0), ([{"peak_bytes_in_use": 3e9}, None], None)],
)
def test_peak_memory_of_gpus(monkeypatch, stats, expected):
    class Device:
        platform = "gpu"

        def __init__(self, stats):
            self.memory_stats = lambda: stats

    monkeypatch.setattr(memory_use.jax, "local_devices", lambda: [Device(each) for each in stats])
    assert peak_memory() == expected
