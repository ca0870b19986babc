"""DECA, SPECTRE, SMIRK and EMOCA: their cameras within crops, written again here as their code has them."""

import pathlib
import pickle

import cv2
import numpy as np
import pytest
from skimage.transform import estimate_transform

from svp_jax.errors import UserError
from svp_jax.face.importers.recognise import import_parameters

HEIGHT, WIDTH = 1080, 1920
# An orthographic camera is a perspective one from infinitely far; ours stands 200 m away, and 0.15 was measured.
WITHIN = 0.2


@pytest.fixture(scope="module")
def seen(tracked):
    """cam [B, 3], boxes [B, 3] (centre, size), tform [B, 3, 3] as DECA's dataset makes them."""
    rng = np.random.default_rng(1)
    frames = len(tracked.parameters)
    cam = np.stack([rng.uniform(7, 9, frames), *rng.normal(0, 0.01, (2, frames))], 1)
    boxes = np.stack([rng.uniform(700, 1100, frames), rng.uniform(450, 600, frames), rng.integers(500, 640, frames)], 1)
    tform = np.stack([crop(*box) for box in boxes])
    return cam, boxes, tform


def crop(x: float, y: float, size: float) -> np.ndarray:
    """decalib/datasets/datasets.py, TestData.__getitem__."""
    source = np.array([[x - size / 2, y - size / 2], [x - size / 2, y + size / 2], [x + size / 2, y - size / 2]])
    return estimate_transform("similarity", source, np.array([[0, 0], [0, 223], [223, 0]])).params


def projected(vertices: np.ndarray, cam: np.ndarray, tform: np.ndarray) -> np.ndarray:
    """batch_orth_proj, then transform_points with the inverse of the crop, as demo_reconstruct.py draws."""
    points = cam[:, None, :1] * (vertices[..., :2] + cam[:, None, 1:])
    points[..., 1] *= -1
    points = (points * 0.5 + 0.5) * 224
    ones = np.ones((*points.shape[:-1], 1))
    back = np.linalg.inv(tform).transpose(0, 2, 1)
    return (np.concatenate([points, ones], -1) @ back)[..., :2]


def deca_codes(tracked, seen) -> dict:
    cam, _, tform = seen
    parameters = tracked.parameters
    return {
        "shape": np.broadcast_to(parameters.identity, (len(cam), 100)),
        "exp": parameters.expression,
        "pose": np.concatenate([parameters.rotation, parameters.jaw], 1),
        "cam": cam.astype(np.float32),
        "tform": tform,
        "image_size": np.array([HEIGHT, WIDTH]),
    }


def smirk_codes(tracked, seen) -> dict:
    codes = deca_codes(tracked, seen)
    names = {"shape": "shape_params", "exp": "expression_params", "cam": "cam", "tform": "tform"}
    renamed = {ours: codes[theirs] for theirs, ours in names.items()} | {"image_size": codes["image_size"]}
    return renamed | {"pose_params": tracked.parameters.rotation, "jaw_params": tracked.parameters.jaw}


@pytest.mark.parametrize("tool", [None, "deca", "spectre"])
def test_deca_and_spectre(tracked, seen, model, tmp_path, tool):
    np.savez(tmp_path / "codes.npz", **deca_codes(tracked, seen))
    found = import_parameters(tmp_path / "codes.npz", model, tool)
    assert found.tool == (tool or "deca") and found.image_size == (HEIGHT, WIDTH) and found.frame_rate is None
    np.testing.assert_array_equal(found.frames, range(6))
    tracked.check(found, projected(tracked.vertices, seen[0], seen[2]), WITHIN)


def test_smirk(tracked, seen, model, tmp_path):
    codes = smirk_codes(tracked, seen) | {"eyelid_params": np.full((6, 2), 0.5), "frame": np.arange(10, 70, 10)}
    np.savez(tmp_path / "codes.npz", **codes)
    found = import_parameters(tmp_path / "codes.npz", model)
    assert len(found.notes) == 1 and "eyelids (eyelid_params) is left out" in found.notes[0]
    assert found.tool == "smirk"
    np.testing.assert_array_equal(found.frames, range(10, 70, 10))
    tracked.check(found, projected(tracked.vertices, seen[0], seen[2]), WITHIN)
    np.savez(tmp_path / "codes.npz", **smirk_codes(tracked, seen))
    assert import_parameters(tmp_path / "codes.npz", model).tool == "smirk"


def test_a_file_for_each_frame(tracked, seen, model, tmp_path):
    """As DECA's demo can save them, image by image; names are sorted by their numbers."""
    codes = deca_codes(tracked, seen)
    size = codes.pop("image_size")
    for frame, number in enumerate([3, 4, 5, 9, 10, 11]):
        single = {name: array[[frame]] if name == "exp" else array[frame] for name, array in codes.items()}
        np.savez(tmp_path / f"video_frame{number}.npz", image_size=size, **single)
    found = import_parameters(tmp_path, model)
    np.testing.assert_array_equal(found.frames, [3, 4, 5, 9, 10, 11])
    tracked.check(found, projected(tracked.vertices, seen[0], seen[2]), WITHIN)


def test_one_crop_and_one_shape_for_all_frames(tracked, seen, model, tmp_path):
    codes = deca_codes(tracked, seen) | {"shape": tracked.parameters.identity, "tform": seen[2][0]}
    np.savez(tmp_path / "codes.npz", **codes)
    found = import_parameters(tmp_path / "codes.npz", model)
    tracked.check(found, projected(tracked.vertices, seen[0], np.repeat(seen[2][:1], 6, 0)), WITHIN)


def test_the_person_is_the_mean_of_the_shapes(tracked, seen, model, tmp_path):
    shapes = np.random.default_rng(0).normal(size=(6, 100))
    np.savez(tmp_path / "codes.npz", **(deca_codes(tracked, seen) | {"shape": shapes}))
    found = import_parameters(tmp_path / "codes.npz", model)
    np.testing.assert_allclose(found.parameters.identity, shapes.mean(0), atol=1e-6)


def test_numbers_of_weights(tracked, seen, whole, model, tmp_path):
    codes = deca_codes(tracked, seen) | {"exp": np.ones((6, 100)), "shape": np.ones((6, 60))}
    np.savez(tmp_path / "codes.npz", **codes)
    found = import_parameters(tmp_path / "codes.npz", model)
    (note,) = found.notes
    assert "has 100 expression weights, the FLAME model 50: the others are left out; give FLAME's whole" in note
    assert found.parameters.expression.shape == (6, 50)
    # Fewer than the model's remain so.
    np.testing.assert_array_equal(found.parameters.identity, np.ones(60))


def write_emoca(folder, tracked, seen, *, inferno: bool = False, second_face: bool = True):
    """What test_emoca_on_video.py leaves, of frames 1 to 6; in frame 3 another face is found first."""
    cam, boxes, _ = seen
    codes = deca_codes(tracked, seen)
    names, centres, sizes = [], [], []
    for frame in range(6):
        faces = [(boxes[frame, :2], int(boxes[frame, 2]), 1.0)]
        if second_face and frame == 2:
            faces.insert(0, (np.array([100.0, 200.0]), 300, 0.0))
        stems = [f"{frame + 1:06d}_{face:03d}" for face in range(len(faces))]
        names.append([pathlib.PurePosixPath(f"clip/detections/{stem}.png") for stem in stems])
        centres.append([centre for centre, _, _ in faces])
        sizes.append([size for _, size, _ in faces])
        for stem, (_, _, ours) in zip(stems, faces, strict=True):
            result = folder / "results" / "EMOCA" / stem
            result.mkdir(parents=True)
            arrays = {name: codes[name][frame] * ours for name in ("shape", "exp", "pose")} | {"cam": cam[frame]}
            if inferno:
                pose = arrays.pop("pose")
                arrays |= {"globalpose": pose[:3], "jawpose": pose[3:]}
            for name, array in arrays.items():
                np.save(result / f"{name}.npy", array.astype(np.float32))
    (folder / "detections").mkdir()
    parts = (names, centres, sizes, 5, [[] for _ in names])
    (folder / "detections" / "bboxes.pkl").write_bytes(b"".join(pickle.dumps(part) for part in parts))
    (folder / "videos").mkdir()
    cv2.imwrite(str(folder / "videos" / "000001.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


@pytest.mark.parametrize("inferno", [False, True])
def test_emoca(tracked, seen, model, tmp_path, inferno):
    write_emoca(tmp_path, tracked, seen, inferno=inferno)
    for path in (tmp_path, tmp_path / "results" / "EMOCA"):
        found = import_parameters(path, model)
        assert found.tool == "emoca" and found.image_size == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(found.frames, range(6))
        tracked.check(found, projected(tracked.vertices, seen[0], seen[2]), WITHIN)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: [(f / "cam.npy").unlink() for f in (folder / "results/EMOCA").iterdir()],
            r"lacks cam\.npy; add",
        ),
        (
            lambda folder: (folder / "results/EMOCA/000002_000/pose.npy").unlink(),
            r"lacks pose\.npy; run with --save_co",
        ),
        (lambda folder: (folder / "detections/bboxes.pkl").unlink(), r"bboxes\.pkl cannot be read"),
        (lambda folder: (folder / "detections/bboxes.pkl").write_bytes(pickle.dumps([])), "is not what EMOCA writes"),
        (lambda folder: (folder / "videos/000001.png").unlink(), r"holds no frame of the video"),
        (lambda folder: (folder / "results/EMOCA").rename(folder / "results/000001"), None),
        (
            lambda folder: np.save(folder / "results/EMOCA/000004_000/exp.npy", np.full(50, np.nan)),
            "exp is not a finite number",
        ),
    ],
)
def test_emoca_s_output_that_is_not_whole(tracked, seen, model, tmp_path, spoil, message):
    write_emoca(tmp_path, tracked, seen)
    spoil(tmp_path)
    if message is None:  # a model of any name
        assert len(import_parameters(tmp_path, model).frames) == 6
        return
    with pytest.raises(UserError, match=message) as caught:
        import_parameters(tmp_path, model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cam": np.full((6, 3), np.nan)}, r"cam is not a finite number at \[0, 0\]; leave that frame out"),
        ({"cam": -np.ones((6, 3))}, r"the scale cam\[0\] of frame 0 is -1, allowed is above 0"),
        ({"cam": np.zeros((0, 3))}, "cam is empty, there are no frames"),
        ({"pose": np.zeros((6, 5))}, r"pose has the shape \[6, 5\], allowed is \[6, 6\]"),
        ({"exp": np.zeros((5, 50))}, r"exp has the shape \[5, 50\], allowed is \[6, n\]"),
        ({"tform": np.repeat(np.diag([1.0, 2, 1])[None], 6, 0)}, "tform of frame 0 turns, stretches or mirrors"),
        ({"tform": np.zeros((6, 2, 3))}, r"tform has the shape \[6, 2, 3\]"),
        ({"image_size": np.zeros(2)}, "image_size is .* allowed are height and width"),
        ({"frame": np.array([1, 2, 3, 3, 4, 5])}, "holds frame 3 twice"),
        ({"exp": np.array(["a"] * 6)}, "exp is no array of numbers"),
    ],
)
def test_codes_that_cannot_be_used(tracked, seen, model, tmp_path, change, message):
    np.savez(tmp_path / "codes.npz", **(deca_codes(tracked, seen) | change))
    with pytest.raises(UserError, match=message) as caught:
        import_parameters(tmp_path / "codes.npz", model)
    assert "\n" not in str(caught.value) and "codes.npz" in str(caught.value)


def test_folders_that_cannot_be_used(tracked, seen, model, tmp_path):
    codes = deca_codes(tracked, seen)
    size = codes.pop("image_size")
    single = {name: array[0] for name, array in codes.items()}
    np.savez(tmp_path / "first.npz", image_size=size, **single)
    with pytest.raises(UserError, match="its name does not end with the frame's number"):
        import_parameters(tmp_path, model)
    (tmp_path / "first.npz").rename(tmp_path / "1.npz")
    np.savez(tmp_path / "2.npz", image_size=size + 2, **single)
    with pytest.raises(UserError, match="holds frames of several sizes"):
        import_parameters(tmp_path, model)
