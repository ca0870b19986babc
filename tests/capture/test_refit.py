"""Another face model for a finished capture, and how well ICT's follows a face whose pose is known."""

import shutil

import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.capture.face_track import read_face_track
from svp_jax.capture.options import PrepareOptions
from svp_jax.capture.prepare import prepare
from svp_jax.capture.refit import refit
from svp_jax.capture.synthetic.capture import write_synthetic_capture
from svp_jax.errors import UserError
from svp_jax.face.morphable import rotation
from svp_jax.inspect import inspect
from svp_jax.manifest import body_of, sha256_file


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return write_synthetic_capture(tmp_path_factory.mktemp("synthetic") / "capture", 3, 4.0, frame_rate=10, size=64)


@pytest.fixture(scope="module")
def fitted(synthetic, shared, tmp_path_factory):
    options = PrepareOptions(face_model="ict", face_model_file=shared / "face_models" / "ict_face_model.npz")
    return refit(synthetic.folder, tmp_path_factory.mktemp("fitted") / "capture", options)


def test_all_but_the_face_model_stays(synthetic, fitted, shared):
    every = np.arange(40)
    np.testing.assert_array_equal(fitted.frames(every), synthetic.frames(every))
    np.testing.assert_array_equal(fitted.parsing(every), synthetic.parsing(every))
    assert (fitted.geometry(every) != synthetic.geometry(every)).mean() > 0.05
    before, after = body_of(synthetic.manifest), body_of(fitted.manifest)
    assert after["face_model"] == "ict" and after["refitted_from"] == synthetic.manifest["manifest_sha256"]
    file = shared / "face_models" / "ict_face_model.npz"
    assert after["settings"] == {"face_model": "ict", "face_model_file": str(file), "face_parameters": None}
    assert after["models"] == {file.name: sha256_file(file)}
    for name in ("split", "prompt", "synthetic", "parser", "frame_rate", "size"):
        assert before[name] == after[name]
    for name, array in synthetic.tracking().items():
        np.testing.assert_array_equal(array, fitted.tracking()[name])
    assert inspect(fitted.folder) == []
    assert (fitted.folder / "channels.png").stat().st_size > 10_000


def test_a_video_s_capture_remembers_what_it_was_refitted_with(shared, tmp_path, monkeypatch):
    landmarker, ict = shared / "models" / "face_landmarker.task", shared / "face_models" / "ict_face_model.npz"
    other = tmp_path / "other.task"
    shutil.copy(landmarker, other)
    options = PrepareOptions(64, parser="landmarks", seconds=0.2, face_landmarker=landmarker)
    with pytest.warns(UserWarning, match="hair and neck are guessed"):
        before = prepare(shared / "videos" / "lp_d0.mp4", tmp_path / "before", options)
    # What is remembered does not depend on the fit, which takes a minute.
    track = read_face_track(before.folder / "face.npz")
    monkeypatch.setattr("svp_jax.capture.refit.fit_capture", lambda *arguments: (track.person, track, {}))
    options = PrepareOptions(face_model="ict", face_model_file=ict, face_landmarker=other)
    after = refit(before.folder, tmp_path / "after", options)
    chosen = {"face_model": "ict", "face_model_file": str(ict)}
    assert after.manifest["settings"] == before.manifest["settings"] | chosen
    assert before.manifest["models"].keys() == {landmarker.name}
    expected = {path.name: sha256_file(path) for path in (landmarker, other, ict)}
    assert after.manifest["models"] == expected


def test_pose_and_eyes_follow_the_truth(synthetic, fitted):
    tracking, track = fitted.tracking(), read_face_track(fitted.folder / "face.npz")
    assert track.frame_rate == 10
    np.testing.assert_array_equal(track.usable, fitted.usable)
    parameters = track.parameters
    truth = tracking["pose"][:, :3, :3]
    turned = np.asarray(rotation.matrix(parameters.rotation), np.float64)
    # ICT's head at rest looks elsewhere than ours, by one constant turn.
    left, _, right = np.linalg.svd(np.einsum("nji,njk->ik", truth, turned))
    off = rotation.vector((truth @ (left @ right)).swapaxes(1, 2) @ turned)
    assert np.degrees(np.linalg.norm(off, axis=-1)).mean() < 1.0
    names = [str(name) for name in tracking["blendshape_names"]]
    gaze = tracking["blendshapes"][:, names.index("gaze_x")]
    assert np.corrcoef(np.asarray(parameters.eyes)[:, 0, 1], gaze)[0, 1] > 0.95
    assert fitted.manifest["quality"]["fit_error_percent"] < 3.5
    assert fitted.manifest["quality"]["fit_worst_frame_percent"] < 8


def test_bad_requests_are_refused(synthetic, shared, tmp_path):
    ict = {"face_model": "ict", "face_model_file": shared / "face_models" / "ict_face_model.npz"}

    def refused(match: str, folder, **options) -> None:
        with pytest.raises(UserError, match=match) as error:
            refit(folder, tmp_path / "out", PrepareOptions(**options))
        assert "\n" not in str(error.value) and not (tmp_path / "out").exists()

    refused("--size has no meaning for a capture", synthetic.folder, size=128, **ict)
    refused("no landmarks of MediaPipe", synthetic.folder)
    refused("no such file", synthetic.folder, face_model="ict", face_model_file=tmp_path / "nowhere.npz")
    refused("capture", tmp_path, **ict)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    refused("is not a readable .npz file", synthetic.folder, face_model="ict", face_model_file=tmp_path / "bad.npz")
    with pytest.raises(UserError, match="--face-model-file belongs to"):
        PrepareOptions(face_model_file=tmp_path)
    with pytest.raises(UserError, match="--face-parameters are FLAME's"):
        PrepareOptions(face_parameters=tmp_path)


def test_an_unfitted_capture_can_be_opened(tmp_path):
    assert open_capture(make_capture(tmp_path / "capture", 3)).frame_count == 3
