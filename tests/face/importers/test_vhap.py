"""VHAP: its own files and exports, against its projection written again here."""

import dataclasses
import json

import numpy as np
import pytest
from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.errors import UserError
from svp_jax.face.importers.recognise import import_parameters
from svp_jax.face.morphable.flame import ALL, load_flame
from svp_jax.face.morphable.rotation import matrix

HEIGHT, WIDTH = 720, 1280


@pytest.fixture(scope="module")
def moved(tracked):
    """The head with all that VHAP tracks: neck, eyes and a place in the world."""
    rng = np.random.default_rng(2)

    def normal(scale: float, *shape) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    parameters = dataclasses.replace(
        tracked.parameters, neck=normal(0.1, 6, 3), eyes=normal(0.1, 6, 2, 3), translation=normal(0.05, 6, 3)
    )
    vertices = np.asarray(tracked.model.vertices(parameters), np.float64)
    return dataclasses.replace(tracked, parameters=parameters, vertices=vertices)


def content(moved) -> dict:
    parameters = moved.parameters
    return {
        "rotation": parameters.rotation,
        "translation": parameters.translation,
        "neck_pose": parameters.neck,
        "jaw_pose": parameters.jaw,
        # FLAME's order: left, right.
        "eyes_pose": np.concatenate([parameters.eyes[:, 1], parameters.eyes[:, 0]], 1),
        "shape": parameters.identity,
        "expr": parameters.expression,
        "timestep_id": np.array([f"{index:06d}" for index in range(6)]),
        "n_processed_frames": np.array(5),
        "focal_length": np.array([1.7], np.float32),
        "lights": np.zeros((9, 3)),
        "image_size": np.array([HEIGHT, WIDTH]),
    }


def projected(vertices: np.ndarray, world_to_camera: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """world_to_ndc of vhap/util/render_nvdiffrast.py, then pixels as its compute_lmk_energy compares them.

    Args:
        lens: [4], fx, fy, cx, cy.
    """
    fx, fy, cx, cy = lens
    near, far = 0.1, 10
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = fx * 2 / WIDTH, fy * 2 / HEIGHT
    projection[0, 2], projection[1, 2] = (WIDTH - 2 * cx) / WIDTH, (HEIGHT - 2 * cy) / HEIGHT
    projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1
    homogeneous = np.concatenate([vertices, np.ones((*vertices.shape[:-1], 1))], -1)
    clip = homogeneous @ (projection @ world_to_camera).swapaxes(-1, -2)
    ndc = clip[..., :2] / clip[..., 3:] * [1, -1]
    return (ndc * 0.5 + 0.5) * [WIDTH, HEIGHT]


def test_tracked_parameters(moved, model, tmp_path):
    for epoch in (0, 10, 30):
        np.savez(
            tmp_path / f"tracked_flame_params_{epoch}.npz", **(content(moved) | {"expr": epoch * np.ones((6, 50))})
        )
    path = tmp_path / "tracked_flame_params_30.npz"
    np.savez(path, **content(moved))
    shift = np.eye(4)
    shift[2, 3] = -1
    focal = np.float32(1.7) * WIDTH
    expected = projected(moved.vertices, shift, np.array([focal, focal, WIDTH / 2, HEIGHT / 2]))
    for given in (path, tmp_path):
        found = import_parameters(given, model)
        assert found.tool == "vhap" and found.image_size == (HEIGHT, WIDTH) and found.frame_rate == 25
        np.testing.assert_array_equal(found.frames, range(6))
        moved.check(found, expected, 1e-3)


def test_all_weights_are_kept(moved, tmp_path):
    """300 of the shape and 100 of the expression, as VHAP has them; the root joint moves with all."""
    flame = load_flame(write_smplx(tmp_path, random_flame(), random_embeddings()), None, *ALL)
    rng = np.random.default_rng(6)
    wide = {"shape": rng.normal(size=300).astype(np.float32), "expr": rng.normal(size=(6, 100)).astype(np.float32)}
    path = tmp_path / "tracked_flame_params_30.npz"
    np.savez(path, **(content(moved) | wide))
    found = import_parameters(path, flame).parameters
    np.testing.assert_array_equal(found.identity, wide["shape"])
    np.testing.assert_array_equal(found.expression, wide["expr"])
    world = dataclasses.replace(moved.parameters, identity=wide["shape"], expression=wide["expr"])
    shift = np.asarray(flame.vertices(found)) - np.asarray(flame.vertices(world))
    np.testing.assert_allclose(shift, np.broadcast_to([0, 0, -1], shift.shape), atol=1e-5)


def write_export(folder, moved, poses: np.ndarray, cy: float) -> np.ndarray:
    (folder / "flame_param").mkdir()
    arrays = content(moved)
    names = ("rotation", "translation", "neck_pose", "jaw_pose", "eyes_pose", "expr")
    frames = []
    for index in range(6):
        single = {name: arrays[name][[index]] for name in names} | {"shape": arrays["shape"]}
        np.savez(folder / "flame_param" / f"{index:05d}.npz", **single)
        frames.append(
            {
                "timestep_index": index,
                "timestep_id": f"{index + 4:06d}",
                "camera_index": 0,
                "camera_id": "0",
                "fl_x": 2000.0,
                "fl_y": 2000.0,
                "cx": WIDTH / 2 + 7,
                "cy": cy,
                "h": HEIGHT,
                "w": WIDTH,
                "transform_matrix": poses[index].tolist(),
                "flame_param_path": f"flame_param/{index:05d}.npz",
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames, "camera_indices": [0]}))
    return np.array([2000.0, 2000.0, WIDTH / 2 + 7, cy])


def camera_poses() -> np.ndarray:
    """From the camera to the world, turned and away from its axes."""
    rng = np.random.default_rng(5)
    poses = np.repeat(np.eye(4)[None], 6, 0)
    poses[:, :3, :3] = matrix(rng.normal(0, 0.2, (6, 3)).astype(np.float32))
    poses[:, :3, 3] = rng.normal((0, 0, 1), 0.05, (6, 3))
    return poses


def test_an_export(moved, model, tmp_path):
    poses = camera_poses()
    lens = write_export(tmp_path, moved, poses, cy=HEIGHT / 2 + 20)
    found = import_parameters(tmp_path, model)
    np.testing.assert_array_equal(found.frames, range(4, 10))
    assert found.image_size == (HEIGHT, WIDTH) and found.frame_rate == 25
    moved.check(found, projected(moved.vertices, np.linalg.inv(poses), lens), 1e-3)


def test_what_flame_lacks(moved, model, tmp_path):
    path = tmp_path / "tracked_flame_params_30.npz"
    np.savez(path, **content(moved), static_offset=np.full((1, 5143, 3), 0.001))
    notes = import_parameters(path, model).notes
    assert notes == (f"{path}: static_offset (up to 1.7 mm) is left out, since FLAME has none",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"focal_length": None}, "has no focal_length, so its cameras were calibrated; export it"),
        ({"rotation": np.full((6, 3), np.inf)}, "rotation is not a finite number"),
        ({"rotation": np.zeros((0, 3))}, "rotation is empty, there are no frames"),
        ({"eyes_pose": np.zeros((6, 3))}, r"eyes_pose has the shape \[6, 3\], allowed is \[6, 6\]"),
        ({"image_size": None}, "lacks image_size"),
        ({"image_size": np.array([0, 512])}, r"image_size is \[0, 512\], allowed is above 0"),
        ({"focal_length": np.array([-1.7])}, r"focal_length is \[-1\.7\], allowed is above 0"),
        ({"focal_length": np.array([1.7, 1.8])}, r"focal_length has the shape \[2\], allowed is \[1\]"),
        ({"neck_pose": None}, "is nearest to the output of vhap, but lacks neck_pose"),
        ({"timestep_id": np.array(["a"] * 6)}, "timestep_id must be 6 numbers of frames"),
    ],
)
def test_files_that_cannot_be_used(moved, model, tmp_path, change, message):
    path = tmp_path / "tracked_flame_params_30.npz"
    np.savez(path, **{name: value for name, value in (content(moved) | change).items() if value is not None})
    with pytest.raises(UserError, match=message) as caught:
        import_parameters(path, model)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frames: frames.clear(), "has no frames"),
        (lambda frames: frames[3].update(camera_index=1), "has 2 cameras; allowed is one"),
        (lambda frames: frames[3].update(fl_x=2100.0), "focal lengths or centres differ"),
        (lambda frames: frames[3].pop("transform_matrix"), "is not what VHAP exports .*transform_matrix"),
        (lambda frames: frames[3].update(flame_param_path="none.npz"), r"none\.npz cannot be read"),
        (lambda frames: frames[3].update(fl_y="a"), "camera is no array of numbers"),
        (lambda frames: [frame.update(fl_x=0, fl_y=0) for frame in frames], r"fl_x, fl_y is \[0\.0, 0\.0\], allowed"),
        (lambda frames: [frame.update(h=0) for frame in frames], r"h, w is \[0, 1280\], allowed is above 0"),
        (
            lambda frames: frames[3].update(transform_matrix=np.zeros((4, 4)).tolist()),
            r"transform_matrix \[3\] is no ro",
        ),
        (
            lambda frames: frames[2].update(transform_matrix=np.diag([1.0, 1.01, 1, 1]).tolist()),
            r"transform_matrix \[2\] is no rotation \(it stretches or mirrors\); track the video again",
        ),
        (
            lambda frames: frames[2].update(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()),
            r"transform_matrix \[2\]",
        ),
    ],
)
def test_exports_that_cannot_be_used(moved, model, tmp_path, spoil, message):
    write_export(tmp_path, moved, camera_poses(), cy=HEIGHT / 2)
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    spoil(content["frames"])
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        import_parameters(tmp_path, model)
    assert "\n" not in str(caught.value)
    path.write_text("not json")
    with pytest.raises(UserError, match="is not what VHAP exports"):
        import_parameters(tmp_path, model)
