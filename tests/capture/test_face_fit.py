"""What another tracker found, in a capture: the right frames, the right pixels."""

import dataclasses
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from flame_factory import random_embeddings, random_flame, write_smplx
from scipy.spatial import ConvexHull

from svp_jax import cli
from svp_jax.capture.capture import open_capture
from svp_jax.capture.face_fit import check_pictures, imported_face
from svp_jax.capture.face_track import read_face_track
from svp_jax.capture.options import PrepareOptions
from svp_jax.capture.prepare import prepare
from svp_jax.errors import UserError
from svp_jax.face.importers.imported import Imported
from svp_jax.face.importers.recognise import import_parameters
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.flame import ALL, load_flame
from svp_jax.face.morphable.flame_landmarks import DYNAMIC, STATIC
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.manifest import sha256_file

FILE = Path("tracked.npz")
HEIGHT, WIDTH = 480, 640


def make_imported(frames: list[int]) -> Imported:
    """Every number of a frame is the frame's number."""
    count = np.array(frames, np.float32)

    def numbered(*shape: int) -> np.ndarray:
        return np.broadcast_to(count.reshape(-1, *(1 for _ in shape)), (len(frames), *shape)).copy()

    parameters = FaceParameters(
        identity=np.arange(4, dtype=np.float32),
        expression=numbered(5),
        jaw=numbered(3),
        neck=numbered(3),
        eyes=numbered(2, 3),
        rotation=numbered(3),
        translation=numbered(3),
    )
    camera = Camera(np.float32(1234.5), np.float32([330.25, 251.5]))
    return Imported("vhap", parameters, camera, np.array(frames), (HEIGHT, WIDTH))


def in_capture(frames: list[int], count: int, left: float = 0, top: float = 0, scale: float = 1):
    times = np.arange(count) / 25
    return imported_face(make_imported(frames), FILE, times, count, left, top, scale)


def at_rate(frames: list[int], times: np.ndarray, total: int) -> tuple[np.ndarray, list[str]]:
    """(which of the tool's frames each source frame shows, of a tool that takes 25 a second; notes)."""
    imported = dataclasses.replace(make_imported(frames), frame_rate=Fraction(25))
    found, _, notes = imported_face(imported, FILE, times, total, 0, 0, 1)
    return found.jaw[:, 0], notes


def test_all_frames_are_taken_as_they_are():
    (found, _, notes), expected = in_capture(list(range(6)), 6), make_imported(list(range(6)))
    assert notes == []
    for name, array in expected.parameters.arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array)


def test_frames_after_the_video_s_end_are_left_out():
    found, _, notes = in_capture(list(range(9)), 4)
    np.testing.assert_array_equal(found.jaw[:, 0], range(4))
    assert notes == []


def test_missing_frames_take_the_nearest_and_are_counted():
    found, _, (note,) = in_capture([2, 3, 6, 9, 14], 12)
    assert note.startswith("--face-parameters tracked.npz: 8 of the video's 12 frames are not in it; they take")
    for name in ("expression", "jaw", "neck", "eyes", "rotation", "translation"):
        numbers = getattr(found, name).reshape(12, -1)
        np.testing.assert_array_equal(numbers[:, 0], [2, 2, 2, 3, 3, 6, 6, 6, 9, 9, 9, 9])
        assert (numbers == numbers[:, :1]).all()


def test_frames_of_another_rate_take_the_nearest_in_time():
    """A video of 60 frames at 30 a second, of which the tool took 50."""
    found, (note,) = at_rate(list(range(50)), np.arange(60) / 30, 60)
    assert "vhap's frames are taken as 25 a second, its usual rate, which is not the video's" in note
    # No further away than half a frame of the tool; as frame numbers the last would be 10 away.
    assert np.abs(found / 25 - np.arange(60) / 30).max() < 0.5001 / 25
    np.testing.assert_array_equal(found[::6], np.arange(0, 50, 5))


def test_missing_frames_of_another_rate_are_counted():
    found, notes = at_rate([0, 1, 2, 3, 9, 10], np.arange(12) / 30, 12)
    # Between frames 3 and 9 of the tool, at 0.12 and 0.36 s.
    assert "6 of the video's 12 frames are not in it" in notes[1]
    np.testing.assert_array_equal(found, [0, 1, 2, 2, 3, 3, 3, 3, 9, 9, 9, 9])


def test_a_variable_rate_is_followed():
    times = np.array([0, 0.04, 0.2, 0.24, 0.401])
    found, (note,) = at_rate(list(range(11)), times, 5)
    np.testing.assert_array_equal(found, [0, 1, 5, 6, 10])
    assert "nearest in time" in note


def test_a_tool_that_took_every_frame_is_known_by_their_number():
    # The whole video, or its first second alone.
    for used in (60, 30):
        found, (note,) = at_rate(list(range(60)), np.arange(used) / 30, 60)
        np.testing.assert_array_equal(found, range(used))
        assert "as many frames as the video, so vhap took each of them" in note


def test_the_tool_s_own_rate_is_no_surprise():
    found, notes = at_rate(list(range(78)), np.round(np.arange(78) / 25, 3), 78)
    np.testing.assert_array_equal(found, range(78))
    assert notes == []


def test_a_long_video_is_read_in_little_memory():
    """A table of all frames by all frames would take 80 GB."""
    found, _, (note,) = in_capture([*range(50_000), *range(50_001, 100_000)], 100_000)
    assert "1 of the video's 100000 frames" in note
    expected = np.arange(100_000)
    expected[50_000] = 49_999
    # Of two that are as near, the earlier.
    np.testing.assert_array_equal(found.jaw[:, 0], expected)


def test_one_frame_is_all_frames():
    found, _, (note,) = in_capture([3], 5)
    assert "4 of the video's 5 frames" in note
    np.testing.assert_array_equal(found.jaw, np.full((5, 3), 3))


@pytest.mark.parametrize("crop", [(0, 0, 1), (100, 40, 0.16), (-12.5, 7.25, 2.0)])
def test_the_crop_s_camera_sees_the_same(crop):
    left, top, scale = crop
    points = np.random.default_rng(0).normal(0, 0.1, (30, 3)).astype(np.float32) - np.float32([0, 0, 1])
    before = np.asarray(make_imported([0]).camera.project(points))
    after = np.asarray(in_capture([0], 1, left, top, scale)[1].project(points))
    # Float32 pixels of up to 1,000.
    np.testing.assert_allclose(after[:, :2], (before[:, :2] - [left, top]) * scale, atol=3e-4)
    np.testing.assert_array_equal(after[:, 2], before[:, 2])


def test_what_is_of_another_video_is_refused():
    def refused(match: str, check, *arguments) -> None:
        with pytest.raises(UserError, match=match) as error:
            check(*arguments)
        assert "\n" not in str(error.value) and "--face-parameters tracked.npz: " in str(error.value)

    # Width and height as they are elsewhere, not exchanged.
    message = "vhap saw pictures of 640 x 480 pixels, the video has 480 x 640"
    refused(message, check_pictures, make_imported([0]), FILE, HEIGHT, WIDTH)
    check_pictures(make_imported([0]), FILE, WIDTH, HEIGHT)
    refused("holds none of the video's 5 frames", in_capture, [5, 8], 5)


@pytest.fixture(scope="module")
def flame_file(tmp_path_factory) -> Path:
    """Whose head and eyeballs are closed surfaces: triangles between any points would take minutes to draw."""
    arrays = random_flame()
    template = arrays["v_template"]
    surfaces = []
    for start, stop, count in ((0, 3931, 7858), (3931, 4477, 1059), (4477, 5023, 1059)):
        points = template[start:stop]
        triangles = ConvexHull(points).simplices[:count]
        a, b, c = points[triangles].swapaxes(0, 1)
        inwards = (np.cross(b - a, c - a) * (a - points.mean(axis=0))).sum(axis=1) < 0
        triangles[inwards] = triangles[inwards, ::-1]
        surfaces.append(triangles + start)
    arrays["f"] = np.concatenate(surfaces).astype(np.uint32)
    return write_smplx(tmp_path_factory.mktemp("flame"), arrays, random_embeddings())


def vhap_file(folder: Path, height: int = 512) -> Path:
    """Of a video of 512 x 512 pixels, whose frames 0 to 7 it has but for number 4."""
    rng = np.random.default_rng(0)

    def normal(scale: float, *shape: int) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    path = folder / "tracked_flame_params_30.npz"
    np.savez(
        path,
        shape=normal(1, 300),
        expr=normal(1, 7, 100),
        rotation=normal(0.2, 7, 3),
        translation=normal(0.02, 7, 3),
        neck_pose=normal(0.1, 7, 3),
        jaw_pose=normal(0.1, 7, 3),
        eyes_pose=normal(0.1, 7, 6),
        timestep_id=np.array([f"{index:06d}" for index in (0, 1, 2, 3, 5, 6, 7)]),
        static_offset=np.full((1, 5143, 3), 0.001),
        focal_length=np.array([2.1], np.float32),
        image_size=np.array([height, 512]),
    )
    return path


def test_what_can_be_known_is_known_before_the_long_part(shared, flame_file, tmp_path, monkeypatch):
    monkeypatch.setattr("svp_jax.capture.prepare.track", lambda *arguments: pytest.fail("tracked"))
    landmarker = shared / "models" / "face_landmarker.task"

    def refused(match: str, model: Path, landmarker: Path, parameters: Path | None = None) -> None:
        options = PrepareOptions(
            64,
            "flame",
            face_model_file=model,
            face_landmarker=landmarker,
            face_parameters=parameters,
            parser="landmarks",
        )
        with pytest.raises(UserError, match=match) as error:
            prepare(shared / "videos" / "lp_d0.mp4", tmp_path / "capture", options)
        assert "\n" not in str(error.value)

    bare = tmp_path / "flame2023.pkl"
    bare.write_bytes(flame_file.read_bytes())
    refused("FLAME's landmarks are not in", bare, landmarker)
    (tmp_path / "face_landmarker.task").write_bytes(b"PK")
    refused("holds no canonical face mesh", flame_file, tmp_path / "face_landmarker.task")
    refused("vhap saw pictures of 512 x 500 pixels", flame_file, landmarker, vhap_file(tmp_path, 500))


def test_prepare_with_face_parameters(shared, flame_file, tmp_path, monkeypatch, capsys):
    """`svp prepare` of eight frames, of which the tracker saw all but number 4."""
    frames = np.delete(np.arange(8), 4)
    given = vhap_file(tmp_path)
    imported = import_parameters(given, load_flame(flame_file, None, *ALL))
    out = tmp_path / "capture"
    arguments = ["prepare", shared / "videos" / "lp_d0.mp4", "--out", out, "--size", 64, "--seconds", 0.32]
    arguments += ["--parser", "landmarks", "--face-model", "flame", "--face-model-file", flame_file]
    arguments += ["--face-parameters", given, "--face-landmarker", shared / "models" / "face_landmarker.task"]
    monkeypatch.setattr("sys.argv", ["svp", *map(str, arguments)])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    cli.main()
    capture, track = open_capture(out), read_face_track(out / "face.npz")
    printed, kept = capsys.readouterr().err, capture.manifest["warnings"]
    for text in ("static_offset (up to 1.7 mm) is left out", "1 of the video's 8 frames are not in it"):
        assert text in printed and any(text in note for note in kept)
    assert capture.frame_count == 8 and track.model_name == "flame" and track.person is None
    assert track.frame_rate == capture.frame_rate
    np.testing.assert_array_equal(track.usable, capture.usable)
    for name, array in imported.parameters.arrays().items():
        found = getattr(track.parameters, name)
        np.testing.assert_array_equal(found if name == "identity" else found[frames], array)
    assert np.array_equal(track.parameters.jaw[4], track.parameters.jaw[3])
    # All that the tool found, and as the capture is opened again.
    model = track.model(flame_file)
    assert track.weights == (model.identity_size, len(model.channels)) == ALL
    left, top, side = capture.manifest["source"]["crop"]
    np.testing.assert_allclose(track.camera.focal, 2.1 * 512 * 64 / side, rtol=1e-6)
    np.testing.assert_allclose(track.camera.centre, (np.array([256, 256]) - [left, top]) * 64 / side, rtol=1e-6)
    files = (given, flame_file, *(flame_file.parent / name for name in (STATIC, DYNAMIC)))
    assert {path.name: sha256_file(path) for path in files}.items() <= capture.manifest["models"].items()
    assert capture.manifest["face_model"] == "flame" and capture.geometry([0]).any()
