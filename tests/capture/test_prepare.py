import json
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from factories import file_size_limit

from svp_jax.capture.capture import CaptureWriter, open_capture
from svp_jax.capture.face_track import read_face_track
from svp_jax.capture.options import PrepareOptions
from svp_jax.capture.prepare import prepare
from svp_jax.capture.video import open_video
from svp_jax.errors import UserError
from svp_jax.face.labels import LABEL_INDEX, decode, face_mask
from svp_jax.face.parsers import SHIPPED
from svp_jax.manifest import sha256_file


@pytest.fixture(scope="module")
def run(shared, tmp_path_factory):
    """Prepares a shared video once, at 64 pixels, and remembers it with the warnings that it gave."""
    finished = {}
    folder = tmp_path_factory.mktemp("captures")

    def once(name: str, **options):
        key = (name, *sorted(options.items()))
        if key not in finished:
            with pytest.MonkeyPatch.context() as patch, pytest.warns() as caught:
                patch.setenv("SVP_MODELS", str(shared / "models"))
                warnings.warn("pytest.warns wants at least one", stacklevel=1)
                capture = prepare(
                    shared / "videos" / name, folder / str(len(finished)), PrepareOptions(size=64, **options)
                )
            finished[key] = capture, [str(warning.message) for warning in caught][1:]
        return finished[key]

    return once


def test_clean_video(run, shared):
    capture, warned = run("lp_d0.mp4")
    assert warned == [] and capture.manifest["warnings"] == []
    assert capture.frame_count == 78 and capture.frame_rate == 25 and capture.usable.all()
    assert set(capture.shot) == {0}
    assert len(capture.test_indices) == 16 and capture.test_indices[0] == 62
    quality = capture.manifest["quality"]
    assert quality["detection_rate"] == 1 and quality["frames_with_another_face"] == 0
    # The clip's measured poses are yaw -3 to -1, pitch -6 to -3, roll -2 to 0.
    assert -4 < quality["yaw_degrees"][0] < quality["yaw_degrees"][1] < 0
    assert quality["jitter_after"] < 0.9 * quality["jitter_before"]
    assert quality["tremble_after"] < 0.3 * quality["tremble_before"]
    # 27 black rows at the bottom are not part of the picture.
    assert quality["crop_pixels"] <= 485
    assert capture.damaged_files() == []
    assert capture.manifest["models"] == {
        name: sha256_file(folder / name)
        for folder, name in (
            (shared / "models", "face_landmarker.task"),
            (shared / "models", "skin_clothes_hair_pan.onnx"),
            (SHIPPED.parent, SHIPPED.name),
        )
    }
    assert "only 3.1 s" in (capture.folder / "quality.txt").read_text()
    overlay = open_video(capture.folder / "overlay.mp4")
    assert (overlay.width, overlay.height, overlay.announced) == (1280, 256, 78)
    # The model of this clip alone, fitted to it.
    track = read_face_track(capture.folder / "face.npz")
    assert track.model_name == "mediapipe" and len(track.parameters) == 78
    assert track.frame_rate == capture.frame_rate and track.usable.all()
    assert quality["fit_error_percent"] < 1.5 and quality["fit_worst_frame_percent"] < 3
    assert quality["fit_jitter_fitted"] < quality["fit_jitter_tracked"]


def test_maps_fit_the_landmarks(run):
    capture, _ = run("lp_d0.mp4")
    for index in (0, 40, 77):
        labels = decode(capture.parsing([index])[0])
        points = capture.landmarks[index]
        assert labels[int(points[4, 1]), int(points[4, 0])] == LABEL_INDEX["nose"]
        face, hair = face_mask(labels), labels == LABEL_INDEX["hair"]
        geometry = capture.geometry([index])[0].any(axis=-1)
        # Mesh and skull lie within face and hair, the skull under the hair; the neck is outside.
        assert ((face | hair) & geometry).sum() > 0.98 * geometry.sum()
        assert 0.1 * hair.sum() < (hair & geometry).sum() < 0.5 * hair.sum()
        assert hair.mean() > 0.02
        assert (labels == LABEL_INDEX["skin"]).mean() > 0.02
        red, green, _ = np.moveaxis(capture.iris([index])[0].astype(int), -1, 0)
        assert abs(np.average(np.arange(64) + 0.5, weights=red.sum(0) + 1e-9) - points[468, 0]) < 0.2
        assert abs(np.average(np.arange(64) + 0.5, weights=green.sum(0) + 1e-9) - points[473, 0]) < 0.2


def test_frames_are_the_crop_of_the_source(run, shared):
    import cv2

    capture, _ = run("lp_d0.mp4")
    left, top, side = capture.manifest["source"]["crop"]
    frames = [frame for _, frame in open_video(shared / "videos" / "lp_d0.mp4").frames()]
    for index in (0, 50):
        expected = cv2.resize(
            frames[index][top : top + side, left : left + side], (64, 64), interpolation=cv2.INTER_AREA
        )
        assert (capture.frames([index])[0] == expected).all()


def test_no_face(run):
    with pytest.raises(UserError, match=r"no_face\.mp4: no face in any of its 10 frames"):
        run("hard/no_face.mp4")


@pytest.mark.parametrize("name", ["not_a_video.mp4", "truncated_no_index.mp4"])
def test_unreadable(run, name):
    with pytest.raises(UserError, match=f"{name} cannot be read as a video"):
        run(f"hard/{name}")


def test_truncated_uses_what_can_be_read_and_counts_it(run):
    capture, warned = run("hard/truncated.mp4")
    assert capture.frame_count == 93 and capture.usable.all()
    assert len(warned) == 1 and "93 of 200 frames" in warned[0]
    assert "93 of 200 frames" in capture.manifest["warnings"][0]


def test_two_faces_follows_one_and_says_so(run):
    capture, _ = run("hard/two_faces.mp4")
    assert capture.usable.all() and set(capture.shot) == {0}
    assert capture.manifest["quality"]["frames_with_another_face"] == 50
    assert any("another face was seen in 50 of 50 frames" in text for text in capture.manifest["advice"])
    left, _, side = capture.manifest["source"]["crop"]
    source_x = capture.tracking()["landmarks"][:, 4, 0] * side / 64 + left
    # The larger one, in the left half, in every frame.
    assert (source_x < 512).all()
    assert left + side <= 540


def test_face_leaves_marks_the_gap_and_starts_a_new_shot(run):
    capture, _ = run("hard/face_leaves.mp4")
    assert capture.shot.tolist() == [0] * 50 + [-1] * 25 + [1] * 28
    used = {*capture.train_indices.tolist(), *capture.test_indices.tolist()}
    assert used == set(range(103)) - set(range(50, 75))
    for read in (capture.parsing, capture.geometry, capture.iris):
        assert not read(range(50, 75)).any()
        assert read([49])[0].any() and read([75])[0].any()
    assert np.isnan(capture.landmarks[50:75]).all()
    assert any("no face in 25 of 103 frames" in text for text in capture.manifest["advice"])


def test_odd_size(run):
    capture, warned = run("hard/odd_size.mp4")
    assert capture.frame_count == 78 and capture.usable.all() and warned == []
    assert capture.frames([0]).shape == (1, 64, 64, 3)


def test_variable_rate_becomes_constant_with_a_map(run, shared):
    capture, warned = run("hard/variable_rate.mkv")
    truth = json.loads((shared / "videos" / "hard" / "variable_rate.json").read_text())
    original = np.array(truth["lp_d0_frame"])
    tracking = capture.tracking()
    assert capture.frame_rate == 25 and capture.frame_count == 78
    expected = [original[original <= slot].max() for slot in range(78)]
    assert original[tracking["source_frame"]].tolist() == expected
    np.testing.assert_allclose(
        tracking["source_time"] * 1000, np.array(truth["pts_ms"])[tracking["source_frame"]], atol=0.5
    )
    assert len(warned) == 1 and "27 frames repeated and 0 left out" in warned[0]
    repeats = np.flatnonzero(np.diff(tracking["source_frame"]) == 0)
    assert (capture.frames(repeats) == capture.frames(repeats + 1)).all()


def test_part_with_sound_rate_and_prompt(run):
    capture, warned = run("hdtf_a.mp4", start=1.0, seconds=1.0, frame_rate="25/2", test_fraction=0.0, prompt="a woman")
    assert capture.frame_rate == Fraction(25, 2) and 12 <= capture.frame_count <= 13
    # A rate that was asked for is no surprise.
    assert capture.tracking()["source_time"].min() >= 1.0 and warned == []
    assert capture.audio_path is not None and len(capture.test_indices) == 0
    assert capture.manifest["prompt"] == "a woman"
    assert capture.manifest["settings"]["seconds"] == 1.0


def test_landmarks_only_warns(run):
    capture, warned = run("lp_d0.mp4", parser="landmarks", seconds=0.2)
    assert capture.manifest["parser"] == "landmarks" and capture.frame_count == 5
    assert len(warned) == 1 and "hair and neck are guessed" in warned[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 100}, "--size 100: allowed are multiples of 64"),
        ({"test_fraction": 1.0}, "--test-fraction 1.0: allowed"),
        ({"smoothing": -1}, "--smoothing -1"),
        ({"seconds": 0}, "--seconds 0"),
        ({"seconds": math.nan}, "--seconds nan: allowed are positive numbers"),
        ({"seconds": math.inf}, "--seconds inf: allowed are positive numbers"),
        ({"frame_rate": "0"}, "--frame-rate 0"),
        ({"start": 50.0}, "no frame from --start 50.0"),
    ],
)
def test_bad_options_are_named(shared, tmp_path, monkeypatch, options, message):
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    with pytest.raises(UserError, match=message):
        prepare(shared / "videos" / "lp_d0.mp4", tmp_path / "cap", PrepareOptions(**{"size": 64, **options}))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_known_before_the_long_part(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    monkeypatch.setattr("svp_jax.capture.prepare.track", lambda *arguments: pytest.fail("tracked"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out .*file/cap: cannot write there \(Not a directory\)"):
        prepare(shared / "videos" / "lp_d0.mp4", tmp_path / "file" / "cap", PrepareOptions(size=64))


@pytest.mark.parametrize("limit", [3000, 20000])
def test_a_full_disk_is_one_line_and_leaves_nothing(shared, tmp_path, monkeypatch, limit):
    """The smaller limit is met by an image, the larger by the overlay video."""
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    options = PrepareOptions(size=64, seconds=0.6, parser="landmarks")
    with warnings.catch_warnings(), file_size_limit(limit):
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=r"cannot write .*File too large") as error:
            prepare(shared / "videos" / "lp_d0.mp4", tmp_path / "cap", options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_finished_capture_is_kept_without_force(run, shared, monkeypatch):
    capture, _ = run("lp_d0.mp4", parser="landmarks", seconds=0.2)
    with pytest.raises(UserError, match="exists; add --force"):
        prepare(shared / "videos" / "lp_d0.mp4", capture.folder, PrepareOptions(size=64))
    open_capture(capture.folder)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interruption_leaves_nothing_finished(shared, tmp_path, monkeypatch, error):
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    add = CaptureWriter.add

    def fails(self, *images):
        if self.count == 3:
            raise error
        add(self, *images)

    monkeypatch.setattr(CaptureWriter, "add", fails)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(expected):
        prepare(shared / "videos" / "lp_d0.mp4", tmp_path / "cap", PrepareOptions(size=64, seconds=0.4))
    assert not (tmp_path / "cap").exists()
