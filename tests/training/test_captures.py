"""Which captures can be trained on together, and what is recorded of them."""

import json

import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.errors import UserError
from svp_jax.face.labels import LABEL_INDEX, colorize
from svp_jax.manifest import body_of, write_manifest
from svp_jax.training.data.captures import describe, labels_of, open_captures
from svp_jax.training.data.held_out import held_out, held_out_split, spread


def changed(folder, **changes):
    """The capture in `folder` with another manifest."""
    manifest = body_of(json.loads((folder / "capture.json").read_text()))
    write_manifest(folder, "capture", manifest | changes)
    return folder


@pytest.fixture
def two(tmp_path):
    return [make_capture(tmp_path / name, frames) for name, frames in (("one", 10), ("two", 15))]


def test_they_are_opened_in_order(two):
    captures = open_captures(two)
    assert [capture.folder for capture in captures] == two
    recorded = describe(captures[1])
    assert recorded["path"] == str(two[1]) and recorded["manifest_sha256"] == captures[1].manifest["manifest_sha256"]


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("size", 64, 128),
        ("face_model", "synthetic", "ict"),
        ("parser", "synthetic", "landmarks"),
    ],
)
def test_what_does_not_agree_is_named(two, key, first, second):
    changed(two[1], **{key: second})
    words = (
        f"{two[0]} and {two[1]} cannot be trained on together: {key} is {first} in the first, {second} in the second"
    )
    with pytest.raises(UserError, match=words):
        open_captures(two)


def test_other_models_behind_the_same_names(two):
    """A parser of the same name may know other labels."""
    changed(two[0], models={"parser.onnx": "a1", "landmarker.task": "f"})
    changed(two[1], models={"parser.onnx": "b2"})
    with pytest.raises(UserError, match=r"models\.parser\.onnx is a1 in the first, b2 in the second; prepare both"):
        open_captures(two)
    changed(two[1], models={"parser.onnx": "a1", "other.task": "g"})
    assert len(open_captures(two)) == 2


def test_what_is_refused(two, tmp_path):
    with pytest.raises(UserError, match=f"{two[0]} is the same capture as {two[0]}; give each once"):
        open_captures([*two, two[0]])
    with pytest.raises(UserError, match="no capture is given"):
        open_captures([])
    small = [make_capture(tmp_path / f"small{count}", count) for count in (2, 3)]
    with pytest.raises(UserError, match=r"small2, .*small3 have 4 frames with a face to train on; at least 8"):
        open_captures(small)
    # Together they are enough.
    assert len(open_captures([small[1], two[0]])) == 2


def test_labels_are_those_of_all_captures(two, monkeypatch):
    captures = open_captures(two)
    assert labels_of(captures) == ["background", "face"]

    def parsing(self, indices):
        maps = np.zeros((len(indices), 64, 64), np.uint8)
        if self.folder == two[1]:
            # In the last training frame only.
            maps[np.asarray(indices) == self.train_indices[-1], 3, 5] = LABEL_INDEX["left_brow"]
        return colorize(maps)

    monkeypatch.setattr(type(captures[0]), "parsing", parsing)
    assert labels_of(captures) == ["background", "left_brow"]
    assert labels_of(captures[:1]) == ["background"]


def test_held_out_frames_are_of_all_captures(two, tmp_path):
    captures = [*open_captures(two), open_capture(make_capture(tmp_path / "all", 8, test_fraction=0.0))]
    shown = held_out(captures)
    assert held_out_split(captures) == "test"
    assert list(shown.frames) == [8, 9, 12, 13, 14] and list(shown.sources) == [0, 0, 1, 1, 1]
    assert list(spread(shown, 3).frames) == [8, 12, 14]
    np.testing.assert_array_equal(
        shown.targets("details", np.arange(5)),
        np.concatenate([captures[0].frames([8, 9]), captures[1].frames([12, 13, 14])]),
    )
    assert held_out_split(captures[2:]) == "train" and list(held_out(captures[2:]).frames) == list(range(8))
