"""What drives an avatar: captures as they are, captures by their motion, files of parameters, scripts."""

import dataclasses
import shutil
import warnings
from fractions import Fraction

import numpy as np
import pytest
from factories import make_avatar, make_capture, make_face_track
from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.capture.capture import open_capture
from svp_jax.capture.face_track import FaceTrack, draw_track, read_face_track, write_face_track
from svp_jax.errors import UserError
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.ict import load_ict
from svp_jax.face.morphable.parameters import neutral
from svp_jax.face.tracking import pose_angles
from svp_jax.manifest import body_of, read_manifest, write_manifest
from svp_jax.rendering import driver as driver_module
from svp_jax.rendering.control import open_driver
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render

FRAMES = 8


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """(own capture, another person's), both fitted with a MediaPipe model of their own."""
    folders = []
    for seed, name in enumerate(("own", "other")):
        folder = make_capture(tmp_path_factory.mktemp(name) / name, FRAMES)
        write_face_track(folder / "face.npz", make_face_track(FRAMES, seed))
        body = body_of(read_manifest(folder, "capture")) | {"face_model": "mediapipe", "prompt": name}
        write_manifest(folder, "capture", body)
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def avatar(captures, base_folder, tmp_path_factory):
    """Trained on the first of the captures, as its manifest says."""
    folder = make_avatar(tmp_path_factory.mktemp("avatar") / "avatar", base_folder)
    shutil.copy(captures[0] / "face.npz", folder)
    manifest = read_manifest(captures[0], "capture")
    body = body_of(read_manifest(folder, "avatar"))
    body["captures"][0] |= {"face_model": "mediapipe", "manifest_sha256": manifest["manifest_sha256"]}
    write_manifest(folder, "avatar", body)
    return folder


@pytest.fixture
def opened(avatar):
    """(driver, options) -> Driver"""
    return lambda path, **options: open_driver(avatar, read_manifest(avatar, "avatar"), path, RenderOptions(**options))


def angles(driver) -> np.ndarray:
    """Yaw, pitch and roll in degrees, [N, 3]."""
    pose = np.tile(np.eye(4), (driver.frame_count, 1, 1))
    pose[:, :3, :3] = rotation.matrix(np.asarray(driver.posed.parameters.rotation))
    return pose_angles(pose)


def write_script(folder, text: str, name: str = "move.csv"):
    (folder / name).write_text("time,channel,value\n" + text)
    return folder / name


def test_the_avatars_own_capture_drives_it_with_its_own_images(opened, captures):
    driver = opened(captures[0])
    assert driver.posed is None
    np.testing.assert_array_equal(driver.geometry([1, 2]), open_capture(captures[0]).geometry([1, 2]))


def test_another_person_moves_the_avatars_own_face(opened, captures, avatar):
    driver = opened(captures[1])
    own, other = (read_face_track(folder / "face.npz") for folder in captures)
    motion = driver.posed.parameters
    assert driver.posed.model.mean is not other.person.mean
    np.testing.assert_array_equal(driver.posed.model.mean, own.person.mean)
    moved = other.parameters.expression - np.median(other.parameters.expression, axis=0)
    rest = np.median(own.parameters.expression, axis=0)
    np.testing.assert_allclose(motion.expression, np.clip(rest + moved, 0, 1), atol=1e-6)
    drawn = list(draw_track(own.person, motion, own.camera, 64))
    np.testing.assert_array_equal(driver.geometry([3])[0], drawn[3][0])
    np.testing.assert_array_equal(driver.iris([3])[0], drawn[3][1])


def test_motion_can_be_chosen(opened, captures):
    assert opened(captures[1], motion="absolute").posed is None
    assert opened(captures[0], motion="relative").posed is not None


def test_captures_without_a_fit_are_taken_as_they_are_with_a_warning(opened, captures, tmp_path):
    bare = make_capture(tmp_path / "bare", FRAMES)
    with pytest.warns(UserWarning, match="without a fitted face model"):
        assert opened(bare).posed is None
    with pytest.raises(UserError, match=r"face\.npz is missing"):
        opened(bare, motion="relative")


def test_set_fixes_channels_and_leaves_the_others(opened, captures):
    own = read_face_track(captures[0] / "face.npz").parameters
    driver = opened(captures[0], set=("jawOpen=0.75", "yaw=-10"))
    motion = driver.posed.parameters
    np.testing.assert_allclose(motion.expression[:, 0], 0.75, atol=1e-6)
    np.testing.assert_allclose(motion.expression[:, 1:], own.expression[:, 1:], atol=1e-6)
    np.testing.assert_allclose(motion.eyes, own.eyes, atol=1e-6)
    # The person's neutral turn is the mean one.
    mean = np.degrees(own.rotation[:, 1].mean())
    np.testing.assert_allclose(angles(driver)[:, 0], mean - 10, atol=0.1)


def test_a_script_moves_the_avatar_from_its_rest(opened, tmp_path, captures):
    driver = opened(write_script(tmp_path, "0,jawOpen,0\n1,jawOpen,1\n0,pitch,0\n1,pitch,12\n"))
    assert driver.frame_count == 26 and driver.frame_rate == 25
    assert driver.capture is None and driver.audio_path is None
    opening = driver.posed.parameters.expression[:, 0]
    assert opening[0] == 0 and opening[-1] == 1 and (np.diff(opening) >= 0).all()
    pitch = angles(driver)[:, 1]
    assert pitch[-1] - pitch[0] == pytest.approx(12, abs=0.1)
    own = read_face_track(captures[0] / "face.npz")
    np.testing.assert_allclose(driver.posed.parameters.translation[0], np.median(own.parameters.translation, axis=0))


def test_a_file_of_parameters_drives(opened, captures):
    file, capture = opened(captures[1] / "face.npz"), opened(captures[1])
    np.testing.assert_array_equal(file.posed.parameters.expression, capture.posed.parameters.expression)
    assert file.frame_rate == 25 and file.shot.tolist() == [0] * FRAMES


def test_a_file_keeps_its_frame_rate_and_gaps(opened, tmp_path):
    usable = np.array([1, 1, 0, 1, 0, 0, 1, 1], bool)
    track = dataclasses.replace(make_face_track(FRAMES, 1), frame_rate=Fraction(30), usable=usable)
    write_face_track(tmp_path / "face.npz", track)
    driver = opened(tmp_path / "face.npz")
    assert driver.frame_rate == 30 and driver.frame_count == FRAMES
    np.testing.assert_array_equal(driver.shot >= 0, usable)
    assert len({driver.shot[index] for index in (0, 3, 6)}) == 3 and driver.shot[0] == driver.shot[1]
    assert driver.shot[6] == driver.shot[7]


def test_a_capture_with_a_gap_moves_its_own_face_as_it_moved(base_folder, tmp_path):
    gap = (2, 3, 4)
    capture = make_capture(tmp_path / "capture", FRAMES, without_face=gap)
    track = make_face_track(FRAMES)
    # What is in frames without a face must not count as the person's rest.
    track.parameters.expression[list(gap)] = 1
    track.parameters.rotation[list(gap), 0] = 1
    write_face_track(capture / "face.npz", dataclasses.replace(track, usable=open_capture(capture).usable))
    write_manifest(capture, "capture", body_of(read_manifest(capture, "capture")) | {"face_model": "mediapipe"})
    avatar = make_avatar(tmp_path / "avatar", base_folder)
    shutil.copy(capture / "face.npz", avatar)
    manifest = read_manifest(avatar, "avatar")
    for path in (capture, capture / "face.npz"):
        driver = open_driver(avatar, manifest, path, RenderOptions(motion="relative"))
        for name, array in driver.posed.parameters.arrays().items():
            np.testing.assert_allclose(array, getattr(track.parameters, name), atol=1e-6, err_msg=name)
    # A script starts from the same rest.
    script = open_driver(avatar, manifest, write_script(tmp_path, "0,yaw,0\n"), RenderOptions())
    rest = np.median(np.delete(track.parameters.expression, gap, axis=0), axis=0)
    np.testing.assert_allclose(script.posed.parameters.expression[0], rest, atol=1e-6)


@pytest.fixture(scope="module")
def ict_file(shared):
    return shared / "face_models" / "ict_face_model.npz"


def write_ict_track(path, model, seed: int) -> FaceTrack:
    parameters = neutral(model.identity_size, len(model.channels), FRAMES)
    parameters.expression[:, model.channels.index("jawOpen")] = np.linspace(0, 0.4 + 0.1 * seed, FRAMES)
    parameters.translation[:] = [0, 0, -60]
    mediapipe = make_face_track(FRAMES)
    track = FaceTrack("ict", parameters, mediapipe.camera, mediapipe.frame_rate, mediapipe.usable)
    write_face_track(path, track)
    return track


def test_a_driver_of_ict_moves_an_avatar_of_mediapipe_with_its_file(opened, captures, ict_file, tmp_path):
    track = write_ict_track(tmp_path / "face.npz", load_ict(ict_file), 0)
    driver = opened(tmp_path / "face.npz", face_model_file=ict_file)
    own = read_face_track(captures[0] / "face.npz").parameters.expression[:, 0]
    wanted = np.median(own) + track.parameters.expression.max(axis=1) - 0.2
    np.testing.assert_allclose(driver.posed.parameters.expression[:, 0], np.clip(wanted, 0, 1), atol=1e-6)


def test_models_of_files(base_folder, ict_file, tmp_path):
    """An avatar of ICT's model: opened once, and drivers that do not fit it are refused."""
    avatar = make_avatar(tmp_path / "avatar", base_folder)
    own = write_ict_track(avatar / "face.npz", load_ict(ict_file), 0)
    options, manifest = RenderOptions(face_model_file=ict_file), read_manifest(avatar, "avatar")
    path = tmp_path / "face.npz"
    write_ict_track(path, load_ict(ict_file), 1)
    assert open_driver(avatar, manifest, path, options).face_model == "ict"
    with pytest.raises(UserError, match=r"^--face-model-file .*nowhere: no such file or folder; give"):
        open_driver(avatar, manifest, path, RenderOptions(face_model_file=tmp_path / "nowhere"))
    fewer = dataclasses.replace(own.parameters, identity=own.parameters.identity[:9])
    write_face_track(path, dataclasses.replace(own, parameters=fewer))
    with pytest.raises(UserError, match=r"has 100 identity and .* fitted with 9 and 57; give the face model that they"):
        open_driver(avatar, manifest, path, options)
    write_face_track(path, dataclasses.replace(own, model_name="flame"))
    with pytest.raises(UserError, match=r"no expression alike; prepare the driver with --face-model ict$"):
        open_driver(avatar, manifest, path, options)


def test_options_without_a_meaning_are_refused(opened, captures, tmp_path):
    script = write_script(tmp_path, "0,jawOpen,1\n")
    for path in (script, captures[1] / "face.npz"):
        with pytest.raises(UserError, match=r"^--motion absolute needs a capture, .*; leave it out$"):
            opened(path, motion="absolute")
        assert opened(path, motion="relative").posed is not None
    for path, options in (
        (script, {}),
        (captures[1] / "face.npz", {}),
        (captures[1], {}),
        (captures[0], {}),
        (captures[0], {"set": ("yaw=3",)}),
        (captures[1], {"motion": "absolute"}),
    ):
        with pytest.raises(
            UserError, match=r"^--face-model-file belongs to .* ict and flame, here it is mediapipe; leave"
        ):
            opened(path, face_model_file=tmp_path, **options)


def test_flames_with_other_numbers_of_weights(avatar, tmp_path):
    """The avatar's was imported with 6 and 7, the driver's fitted with 4 and 5."""
    flame = write_smplx(tmp_path, random_flame(), random_embeddings())
    shutil.copytree(avatar, tmp_path / "avatar")
    moves = np.linspace(0, 0.7, FRAMES, dtype=np.float32)
    for path, sizes, scale in ((tmp_path / "avatar" / "face.npz", (6, 7), 0), (tmp_path / "other.npz", (4, 5), 1)):
        parameters = neutral(*sizes, FRAMES)
        parameters.expression[:, 3] = scale * moves
        parameters.translation[:] = [0, 0, -1]
        write_face_track(
            path, dataclasses.replace(make_face_track(FRAMES), model_name="flame", parameters=parameters, person=None)
        )
    options = RenderOptions(face_model_file=flame)
    manifest = read_manifest(tmp_path / "avatar", "avatar")
    driver = open_driver(tmp_path / "avatar", manifest, tmp_path / "other.npz", options)
    assert (driver.posed.model.identity_size, len(driver.posed.model.channels)) == (6, 7)
    expected = np.zeros((FRAMES, 7), np.float32)
    expected[:, 3] = moves - np.median(moves)
    np.testing.assert_allclose(driver.posed.parameters.expression, expected, atol=1e-6)


def test_what_is_drawn_is_remembered_and_does_not_grow(opened, captures, monkeypatch):
    monkeypatch.setattr(driver_module, "_KEPT", 3)
    # A chunk's frames are asked for again while the next are on their way.
    monkeypatch.setattr(driver_module, "_KEPT_REQUESTS", 2)
    driver = opened(captures[1])
    for start in range(0, FRAMES - 1):
        driver.geometry([start, start + 1])
        assert len(driver.posed.drawn) <= 4
    assert FRAMES > 4


def test_a_large_request_is_drawn_once(opened, captures, monkeypatch):
    drawn = []

    def counted(model, parameters, *view):
        drawn.append(len(parameters))
        return draw_track(model, parameters, *view)

    monkeypatch.setattr(driver_module, "_KEPT", 3)
    monkeypatch.setattr(driver_module, "draw_track", counted)
    driver = opened(captures[1])
    every = np.arange(6)
    geometry = driver.geometry(every)
    driver.iris(every)
    # Then the files of the render ask for one after the other.
    for number in every:
        np.testing.assert_array_equal(driver.geometry([number])[0], geometry[number])
    assert drawn == [6]


def test_a_script_is_rendered(avatar, tmp_path):
    script = write_script(tmp_path, "0,jawOpen,0\n0.2,jawOpen,1\n")
    options = RenderOptions(steps=2, chunk=4, set=("yaw=3",))
    out = render(avatar, script, tmp_path / "out", options)
    manifest = read_manifest(out, "render")
    assert manifest["frames"] == list(range(6)) and manifest["frame_rate"] == "25"
    assert sorted(path.name for path in (out / "frames").iterdir())[-1] == "000005.png"
    assert manifest["settings"]["motion"] == "auto" and manifest["settings"]["set"] == ["yaw=3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,jawOpe,1\n", r"line 2: unknown name 'jawOpe'; did you mean jawOpen\?$"),
        ("1,jawOpen,1\n0,jawOpen,0\n", r"move\.csv, line 3: jawOpen has a key at 0 s after its key at 1 s; times"),
        ("", "no keys"),
        ("0,jawOpen,nan\n", "line 2: jawOpen's value is nan, allowed are finite numbers"),
    ],
)
def test_bad_scripts_are_refused(opened, tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        opened(write_script(tmp_path, text))
    assert "\n" not in str(error.value)


def test_other_bad_drivers_are_refused(opened, captures, avatar, base_folder, tmp_path):
    def refused(match: str, path, **options) -> None:
        with pytest.raises(UserError, match=match) as error:
            opened(path, **options)
        assert "\n" not in str(error.value)

    script = write_script(tmp_path, "0,jawOpen,1\n")
    refused("no such driver", tmp_path / "nowhere.csv")
    refused("allowed are", shutil.copy(script, tmp_path / "move.txt"))
    refused("no parsing maps", script, maps="driver")
    refused(r"^--set: unknown name 'jawOpn'; did you mean jawOpen\?$", captures[0], set=("jawOpn=1",))
    refused("^--set jawOpen: allowed is NAME=NUMBER", captures[0], set=("jawOpen",))
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\3\4 nothing")
    refused("not a readable .npz file", broken)
    track = make_face_track(4)
    expression = track.parameters.expression.copy()
    expression[2, 1] = np.nan
    write_face_track(
        broken, dataclasses.replace(track, parameters=dataclasses.replace(track.parameters, expression=expression))
    )
    refused("expression is not a finite number in frame 2", broken)
    write_face_track(broken, track.frames(slice(0, 0)))
    refused("no frames", broken)
    unfitted = make_avatar(tmp_path / "unfitted", base_folder)
    with pytest.raises(UserError, match="only captures drive it"):
        open_driver(unfitted, read_manifest(unfitted, "avatar"), script, RenderOptions())


def test_models_with_nothing_in_common_are_refused(opened, captures, tmp_path):
    track = make_face_track(4)
    person = dataclasses.replace(track.person, channels=tuple(f"expression_{index}" for index in range(5)))
    write_face_track(tmp_path / "face.npz", dataclasses.replace(track, person=person))
    with pytest.raises(UserError, match="no expression in common"):
        opened(tmp_path / "face.npz")


def test_channels_that_the_clip_does_not_show_are_named(opened, avatar, captures, tmp_path):
    track = read_face_track(avatar / "face.npz")
    seen = np.ones(len(track.person.channels), np.float32)
    name = track.person.channels[1]
    seen[1] = 0.05
    write_face_track(
        avatar / "face.npz", dataclasses.replace(track, person=dataclasses.replace(track.person, seen=seen))
    )
    try:
        with pytest.warns(UserWarning, match=f"{name}: the clip .* hardly shows it"):
            opened(captures[1], set=(f"{name}=1",))
        with pytest.warns(UserWarning, match=f"{name}: the clip .* hardly shows it"):
            opened(write_script(tmp_path, f"0,{name},0\n1,{name},1\n"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened(captures[1], set=("jawOpen=1", "yaw=5"))
    finally:
        write_face_track(avatar / "face.npz", track)
