import cv2
import numpy as np
import pytest

from svp_jax.capture.video import open_video
from svp_jax.errors import UserError
from svp_jax.face.tracking import Face, PersonFollower, face_tracker, find_landmarks, pose_angles


def face_at(x: float, y: float, width: float) -> Face:
    corners = np.array([(x, y, 0), (x + width, y, 0), (x, y + width, 0), (x + width, y + width, 0)], np.float32)
    return Face(corners, np.zeros(52, np.float32), np.eye(4, dtype=np.float32))


def test_follower_keeps_the_person_whatever_the_order():
    follower = PersonFollower(1000, 500)
    big, small = face_at(300, 150, 200), face_at(700, 150, 120)
    assert follower.pick([small, big], False) is big
    for step in range(1, 30):
        big, small = face_at(300 + 8 * step, 150, 200 - 3 * step), face_at(700 + step, 150, 120 + 4 * step)
        order = [small, big] if step % 2 else [big, small]
        assert follower.pick(order, False) is big
        if 300 + 8 * step + 200 - 3 * step > 690:
            break
    assert follower.frames_with_others == step + 1


def test_follower_does_not_jump_to_the_other_while_ours_is_lost():
    follower = PersonFollower(1000, 500)
    ours, other = face_at(300, 150, 200), face_at(700, 150, 120)
    assert follower.pick([ours, other], False) is ours
    assert follower.pick([other], False) is None
    assert follower.pick([], False) is None
    back = face_at(340, 150, 200)
    assert follower.pick([other, back], False) is back


def test_follower_takes_ours_back_elsewhere_and_chooses_anew_after_a_cut():
    follower = PersonFollower(1000, 500)
    assert follower.pick([face_at(100, 100, 200)], False) is not None
    assert follower.pick([], False) is None
    moved = face_at(600, 100, 200)
    assert follower.pick([moved], False) is moved
    corner, middle = face_at(800, 300, 190), face_at(400, 150, 200)
    assert follower.pick([corner, middle], True) is middle


@pytest.mark.parametrize("axis, index", [("yaw", 0), ("pitch", 1), ("roll", 2)])
def test_pose_angles_of_single_rotations(axis, index):
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    rotation = {
        "yaw": [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]],
        "pitch": [[1, 0, 0], [0, cos, sin], [0, -sin, cos]],
        "roll": [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]],
    }[axis]
    pose = np.eye(4)
    pose[:3, :3] = rotation
    expected = np.zeros(3)
    expected[index] = 20
    np.testing.assert_allclose(pose_angles(pose), expected, atol=1e-9)


def test_real_tracking_agrees_with_the_documented_measurements(shared):
    poses, jaws = [], []
    with face_tracker(shared / "models" / "face_landmarker.task") as tracker:
        for time, image in open_video(shared / "videos" / "hdtf_a.mp4").frames(0, 2):
            face = tracker.detect(image, time)[0]
            assert face.landmarks.shape == (478, 3) and face.blendshapes.shape == (52,)
            poses.append(face.pose)
            jaws.append(face.blendshapes[tracker.blendshape_names.index("jawOpen")])
    angles = pose_angles(np.array(poses))
    assert (np.abs(angles) < 12).all() and np.ptp(angles[:, 0]) > 3
    assert 0 <= min(jaws) < max(jaws) < 0.6
    # The nose is nearer than the ears, and depth is in the unit of x.
    depth = face.landmarks[:, 2]
    assert depth[4] < depth[234] and depth[4] < depth[454]
    assert 0.2 < np.ptp(depth) / np.ptp(face.landmarks[:, 0]) < 1.5


def test_still_pictures_are_tracked_each_by_itself(shared, real_face):
    image, landmarks = real_face
    model = shared / "models" / "face_landmarker.task"
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
    found = find_landmarks([image, np.zeros_like(image), small, image], model)
    assert found[1] is None
    assert found[0].shape == (478, 3) and found[0].dtype == np.float32
    np.testing.assert_array_equal(found[0], found[3])
    eyes = np.linalg.norm(landmarks[33, :2] - landmarks[263, :2])
    for points, scale in ((found[0], 1), (found[2], 4)):
        # In pixels of the picture given; the other was tracked in a video.
        distance = np.linalg.norm(points[:, :2] * scale - landmarks[:, :2], axis=1).mean() / eyes
        assert distance < 0.02, distance


def test_missing_model_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    message = r"face_landmarker\.task.*svp assets --fetch face_landmarker\.task.*SVP_MODELS"
    with pytest.raises(UserError, match=message), face_tracker():
        pass
    message = r"--face-landmarker .*no such model file"
    with pytest.raises(UserError, match=message), face_tracker(tmp_path / "nothing.task"):
        pass


def test_broken_model_is_a_user_error(tmp_path):
    path = tmp_path / "face_landmarker.task"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match="not a usable face landmarker"), face_tracker(path):
        pass
