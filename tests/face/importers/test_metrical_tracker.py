"""metrical-tracker: its checkpoints, against PyTorch3D's camera written again here."""

import dataclasses

import cv2
import numpy as np
import pytest

from svp_jax.errors import UserError
from svp_jax.face.importers.recognise import import_parameters
from svp_jax.face.morphable.rotation import matrix

torch = pytest.importorskip("torch", reason="the tool's files are PyTorch's; install the [dev] extra")

SIZE = 512
FOCAL, CENTRE = 9.5, np.array([0.02, -0.03])  # in PyTorch3D's normalized coordinates


@pytest.fixture(scope="module")
def still(tracked):
    """The tool's head turns jaw and eyes alone."""
    eyes = np.random.default_rng(3).normal(0, 0.1, (6, 2, 3)).astype(np.float32)
    parameters = dataclasses.replace(tracked.parameters, rotation=np.zeros((6, 3), np.float32), eyes=eyes)
    vertices = np.asarray(tracked.model.vertices(parameters), np.float64)
    return dataclasses.replace(tracked, parameters=parameters, vertices=vertices)


@pytest.fixture(scope="module")
def cameras():
    """R [B, 3, 3] and T [B, 3] of PyTorch3D: x left, y up, looking along z, points are rows: X R + T."""
    rng = np.random.default_rng(4)
    turns = np.asarray(matrix(rng.normal(0, 0.3, (6, 3)).astype(np.float32)), np.float64)
    # look_at_view_transform(dist=1): the camera looks at the face from the front.
    return np.diag([-1.0, 1, -1]) @ turns, rng.normal((0, 0, 1.2), 0.03, (6, 3))


def six(turns: np.ndarray) -> np.ndarray:
    """matrix_to_rotation_6d, scaled, since an optimizer leaves its rows neither orthogonal nor of length 1."""
    rows = np.asarray(turns, np.float64)[..., :2, :].copy()
    rows[..., 1, :] += 0.1 * rows[..., 0, :]
    return (1.2 * rows).reshape(*turns.shape[:-2], 6)


def in_opencv(turn: np.ndarray, shift: np.ndarray) -> dict:
    """opencv_from_cameras_projection of PyTorch3D, for a square picture."""
    turn, shift = turn.copy(), shift.copy()
    shift[:2] *= -1
    turn[:, :2] *= -1
    lens = np.diag([FOCAL * SIZE / 2, FOCAL * SIZE / 2, 1.0])
    lens[:2, 2] = SIZE / 2 - CENTRE * SIZE / 2
    single = {"R": turn.T[None], "t": shift[None], "K": lens[None]}
    return {name: array.astype(np.float32) for name, array in single.items()}


def projected(vertices: np.ndarray, turns: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """transform_points_screen of PyTorch3D's PerspectiveCameras."""
    view = vertices @ turns + shifts[:, None]
    ndc = FOCAL * view[..., :2] / view[..., 2:] + CENTRE
    return SIZE / 2 - ndc * SIZE / 2


def checkpoint(still, cameras, index: int) -> dict:
    turns, shifts = cameras
    parameters = still.parameters.frames(slice(index, index + 1))
    eyes = np.concatenate([six(matrix(parameters.eyes[:, 1])), six(matrix(parameters.eyes[:, 0]))], 1)
    flame = {
        "exp": parameters.expression,
        "shape": parameters.identity[None],
        "tex": np.zeros((1, 140)),
        "sh": np.zeros((1, 9, 3)),
        "eyes": eyes,
        "eyelids": np.zeros((1, 2)),
        "jaw": six(matrix(parameters.jaw)),
    }
    camera = {"R": six(turns[[index]]), "t": shifts[[index]], "fl": np.array([[FOCAL]]), "pp": CENTRE[None]}
    return {
        "flame": {name: np.array(array, np.float32) for name, array in flame.items()},
        "camera": {name: array.astype(np.float32) for name, array in camera.items()},
        "opencv": in_opencv(turns[index], shifts[index]),
        "img_size": np.array([SIZE, SIZE]),
        "frame_id": f"{index:05d}",
        "global_step": 1000,
    }


def write(folder, still, cameras, change=lambda content: None):
    (folder / "checkpoint").mkdir()
    for index in range(6):
        content = checkpoint(still, cameras, index)
        if index == 2:
            change(content)
        torch.save(content, folder / "checkpoint" / f"{index:05d}.frame")


def test_checkpoints(still, cameras, model, tmp_path):
    write(tmp_path, still, cameras)
    for path in (tmp_path, tmp_path / "checkpoint"):
        found = import_parameters(path, model)
        assert found.tool == "metrical-tracker" and found.image_size == (SIZE, SIZE)
        assert found.frame_rate == 25
        np.testing.assert_array_equal(found.frames, range(6))
        still.check(found, projected(still.vertices, *cameras), 1e-3)


@pytest.mark.parametrize("box", [(300, 1000, 100, 900), (400, 1200, 150, 750)], ids=["tall", "wide"])
def test_in_the_video_s_own_pixels(still, cameras, model, tmp_path, box):
    """crop_image_bbox and squarefiy of image.py, for points."""
    write(tmp_path, still, cameras)
    torch.save(np.array(box), tmp_path / "bbox.pt")
    (tmp_path / "source").mkdir()
    cv2.imwrite(str(tmp_path / "source" / "00001.png"), np.zeros((1080, 1920, 3), np.uint8))
    found = import_parameters(tmp_path, model)
    assert found.image_size == (1080, 1920)
    left, right, top, bottom = box
    width, height = right - left, bottom - top
    larger = max(width, height)
    margin = np.array([int((larger - width) / 2), int((larger - height) / 2)])
    # A point of the square picture, before it was scaled, padded and cut.
    expected = projected(still.vertices, *cameras) * larger / SIZE - margin + [left, top]
    still.check(found, expected, 1e-3)


def test_eyelids_are_left_out(still, cameras, model, tmp_path):
    write(tmp_path, still, cameras, lambda content: content["flame"].update(eyelids=np.ones((1, 2))))
    (note,) = import_parameters(tmp_path, model).notes
    assert "what closes the eyelids is left out" in note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("flame"), r"00002\.frame lacks flame; give a checkpoint"),
        (lambda content: content.pop("opencv"), r"00002\.frame lacks opencv"),
        (lambda content: content["flame"].pop("jaw"), r"00002\.frame lacks jaw"),
        (lambda content: content["flame"]["exp"].fill(np.nan), "exp is not a finite number"),
        (lambda content: content["flame"]["jaw"].fill(0), "jaw is not a finite number in frame 2"),
        (lambda content: content["opencv"].update(K=2 * content["opencv"]["K"]), "focal length or centre differ"),
        (lambda content: content.update(img_size=np.array([256, 256])), "holds pictures of several sizes"),
        (lambda content: content["opencv"].update(R=np.zeros((1, 3, 3))), r"00002\.frame: R is no rotation"),
        (lambda content: content["opencv"].update(R=-np.eye(3)[None]), r"00002\.frame: R is no rotation"),
        (
            lambda content: content["opencv"].update(K=0 * content["opencv"]["K"]),
            "the focal length in K is ",
        ),
        (lambda content: content.update(img_size=np.array([512, 0])), r"img_size is \[512, 0\], allowed is above 0"),
        (lambda content: content["flame"].update(eyes=np.zeros((1, 6))), r"eyes has the shape \[1, 6\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_checkpoints_that_cannot_be_used(still, cameras, model, tmp_path, change, message):
    write(tmp_path, still, cameras, change)
    with pytest.raises(UserError, match=message) as caught:
        import_parameters(tmp_path, model)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used(still, cameras, model, tmp_path):
    write(tmp_path, still, cameras)
    torch.save(np.array([0, 100, 0, 100]), tmp_path / "bbox.pt")
    with pytest.raises(UserError, match=r"has bbox\.pt but no picture in source/"):
        import_parameters(tmp_path, model)
    (tmp_path / "source").mkdir()
    cv2.imwrite(str(tmp_path / "source" / "00001.png"), np.zeros((1080, 1920, 3), np.uint8))
    torch.save(np.array([100, 100, 50, 50]), tmp_path / "bbox.pt")
    with pytest.raises(UserError, match=r"bbox\.pt: the size of bbox is \[0\.0\], allowed is above 0"):
        import_parameters(tmp_path, model)
    (tmp_path / "checkpoint" / "00003.frame").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"00003\.frame is not a readable PyTorch file"):
        import_parameters(tmp_path, model)
    (tmp_path / "checkpoint" / "00003.frame").rename(tmp_path / "checkpoint" / "last.frame")
    with pytest.raises(UserError, match=r"last\.frame"):
        import_parameters(tmp_path, model)
