"""The fitted face model of a capture on disk."""

import dataclasses
import re
from fractions import Fraction

import numpy as np
import pytest
from factories import make_face_track

from svp_jax.capture.face_track import draw_track, read_face_track, write_face_track
from svp_jax.errors import UserError


def test_what_was_written_is_read(tmp_path):
    track = dataclasses.replace(
        make_face_track(5), frame_rate=Fraction(30000, 1001), usable=np.array([1, 0, 1, 1, 0], bool)
    )
    write_face_track(tmp_path / "face.npz", track)
    again = read_face_track(tmp_path / "face.npz")
    assert again.model_name == "mediapipe" and again.person.channels == track.person.channels
    assert again.frame_rate == track.frame_rate
    np.testing.assert_array_equal(again.usable, track.usable)
    for name, array in track.parameters.arrays().items():
        np.testing.assert_array_equal(array, getattr(again.parameters, name))
    before, after = (list(draw_track(t.model(), t.parameters, t.camera, 64)) for t in (track, again))
    np.testing.assert_array_equal(before, after)


def test_many_frames_are_drawn_as_one_by_one():
    track = make_face_track(20)
    together = list(draw_track(track.model(), track.parameters, track.camera, 64))
    assert len(together) == 20
    alone = next(draw_track(track.model(), track.parameters.frames(slice(17, 18)), track.camera, 64))
    np.testing.assert_array_equal(together[17], alone)


def refused(path) -> str:
    """The message with which `path` is refused, but for the path itself."""
    with pytest.raises(UserError) as error:
        read_face_track(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "face.npz"
    assert refused(path).startswith(" is missing; prepare the video again")
    np.savez(path, identity=np.zeros(3))
    assert refused(path).startswith(" is no fitted face model: it has no array 'model_name'")
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    assert "is not a readable .npz file" in refused(path)
    write_face_track(path, make_face_track(3))
    path.write_bytes(path.read_bytes()[:-200])
    assert "is not a readable .npz file" in refused(path)


def changed(array: np.ndarray, place, value) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model_name", lambda a: np.array("ict3"), "model_name is 'ict3', allowed are mediapipe, ict, flame;"),
        ("model_name", lambda a: np.array(3), "model_name holds int64, expected texts"),
        ("frame_rate", lambda a: np.array("1/0"), "frame_rate is '1/0', allowed are positive numbers such as 25"),
        ("frame_rate", lambda a: np.array("-25"), "frame_rate is '-25', allowed are positive numbers"),
        ("frame_rate", lambda a: np.array(25.0), "frame_rate holds float64, expected texts"),
        ("usable", lambda a: a.astype(int), "usable holds int64, expected truth values"),
        ("usable", lambda a: a & False, "has no frames with a face; give a face.npz of a capture"),
        ("identity", lambda a: np.zeros(4, np.float32), "has 0 identity and 5 expression weights, the parameters were"),
        ("identity", lambda a: np.zeros((3, 0)), "identity has the shape [3, 0], expected [n]"),
        ("expression", lambda a: a.astype(str), "expression holds <U32, expected floating point numbers"),
        ("expression", lambda a: a[0], "expression has the shape [5], expected [3, n]"),
        ("expression", lambda a: a[:, 1:], "person_basis has the shape [5, 478, 3], expected [4, 478, 3]"),
        ("jaw", lambda a: a[1:], "jaw has the shape [2, 3], expected [3, 3]"),
        ("neck", lambda a: a[:, :2], "neck has the shape [3, 2], expected [3, 3]"),
        ("eyes", lambda a: a[:, 0], "eyes has the shape [3, 3], expected [3, 2, 3]"),
        ("rotation", lambda a: changed(a, (1, 2), np.inf), "rotation is not a finite number in frame 1"),
        ("rotation", lambda a: changed(a.astype(float), (2, 0), 1e200), "rotation is not a finite number in frame 2"),
        ("rotation", lambda a: np.array([{"a": 1}], object), "rotation holds "),
        ("translation", lambda a: a.astype(complex), "translation holds complex128, expected floating point numbers"),
        ("focal", lambda a: a * np.nan, "focal holds numbers that are not finite"),
        ("focal", lambda a: -a, "focal is -128 pixels, allowed are positive numbers"),
        ("focal", lambda a: a[None], "focal has the shape [1], expected []"),
        ("centre", lambda a: changed(a, 1, np.inf), "centre holds numbers that are not finite"),
        ("person_mean", lambda a: a[1:], "person_mean has the shape [477, 3], expected [478, 3]"),
        ("person_mean", lambda a: changed(a, (0, 0), np.nan), "person_mean holds numbers that are not finite"),
        ("person_basis", lambda a: changed(a, (1, 2, 0), np.inf), "person_basis holds numbers that are not finite"),
        ("person_turned_by", lambda a: a.astype(float), "person_turned_by holds float64, expected integers"),
        ("person_turned_by", lambda a: changed(a, 3, 9), "person_turned_by holds 0 to 9, allowed are 0 to 2"),
        ("person_eye_centre", lambda a: a.astype(str), "person_eye_centre holds <U32, expected floating point"),
        ("person_seen", lambda a: a[1:], "person_seen has the shape [4], expected [5]"),
        ("person_places", lambda a: changed(a, 0, 478), "person_places holds 0 to 478, allowed are 0 to 477"),
        ("person_places", lambda a: changed(a, 0, -1), "person_places holds -1 to 473, allowed are 0 to 477"),
        ("person_channels", lambda a: np.arange(5), "person_channels holds int64, expected texts"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, change, message):
    path = tmp_path / "face.npz"
    write_face_track(path, make_face_track(3))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {name: change(arrays[name])})
    assert message in refused(path)


@pytest.mark.parametrize("name", ["frame_rate", "usable", "expression", "focal", "person_mean", "person_channels"])
def test_a_missing_array(tmp_path, name):
    path = tmp_path / "face.npz"
    write_face_track(path, make_face_track(3))
    with np.load(path) as file:
        np.savez(path, **{key: array for key, array in file.items() if key != name})
    assert refused(path).startswith(f" is no fitted face model: it has no array {name!r}; prepare the video again")


def test_a_model_of_other_sizes_is_refused(shared):
    track = make_face_track(2)
    other = dataclasses.replace(track, model_name="ict", person=None)
    file = shared / "face_models" / "ict_face_model.npz"
    message = (
        f"^{re.escape(str(file))}: the face model has 100 identity and 57 expression weights, .* with 0 and 5; give"
    )
    with pytest.raises(UserError, match=message):
        other.model(file)
    with pytest.raises(UserError, match="--face-model-file nowhere"):
        other.model("nowhere")
