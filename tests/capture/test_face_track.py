"""The fitted face model of a capture on disk."""

import dataclasses

import numpy as np
import pytest
from factories import make_face_track

from svp_jax.capture.face_track import draw_track, read_face_track, write_face_track
from svp_jax.errors import UserError


def test_what_was_written_is_read(tmp_path):
    track = make_face_track(5)
    write_face_track(tmp_path / "face.npz", track)
    again = read_face_track(tmp_path / "face.npz")
    assert again.model_name == "mediapipe" and again.person.channels == track.person.channels
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


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "face.npz"
    with pytest.raises(UserError, match="missing"):
        read_face_track(path)
    np.savez(path, identity=np.zeros(3))
    with pytest.raises(UserError, match="no fitted face model"):
        read_face_track(path)
    track = make_face_track(3)
    rotation = track.parameters.rotation.copy()
    rotation[1, 2] = np.inf
    write_face_track(
        path, dataclasses.replace(track, parameters=dataclasses.replace(track.parameters, rotation=rotation))
    )
    with pytest.raises(UserError, match="rotation is not a finite number in frame 1"):
        read_face_track(path)


def test_a_model_of_other_sizes_is_refused(shared):
    track = make_face_track(2)
    other = dataclasses.replace(track, model_name="ict", person=None)
    with pytest.raises(UserError, match="100 identity and 57 expression weights"):
        other.model(shared / "face_models" / "ict_face_model.npz")
    with pytest.raises(UserError, match="--face-model-file nowhere"):
        other.model("nowhere")
