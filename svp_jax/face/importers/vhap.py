"""VHAP (Qian 2024; github.com/ShenhanQian/VHAP), the tracker of GaussianAvatars: its own output and its exports.

tracked_flame_params_<epoch>.npz of vhap/track.py (vhap/model/tracker.py, save_result):

    shape [300], expr [T, 100], rotation, translation, neck_pose, jaw_pose [T, 3]
    eyes_pose [T, 6]        left eye first
    timestep_id [T]         names of the frames: numbers, from 0 on, at --target_fps (25) frames a second of the video
                            (vhap/preprocess_video.py); no file says another one
    focal_length [1]        of the larger side of the picture; absent where the cameras were calibrated
    image_size [2]          height and width of the pictures that were tracked (smaller than the video where
                            --data.n_downsample_rgb or --data.scale_factor say so)
    static_offset [1, V, 3], dynamic_offset [T, V, 3]   how the person differs from FLAME; left out with a note

The camera stands 1 m before the world's origin, looks along -z, and has its axis in the picture's middle
(fill_cam_params_into_sample). vhap/export_as_nerf_dataset.py writes transforms.json, with a camera for each picture
(`transform_matrix` from the camera to the world, fl_x, fl_y, cx, cy, w, h; y upwards, so cy counts from the lower edge:
vhap/util/render_nvdiffrast.py, projection_from_intrinsics), and flame_param/<frame>.npz, the same arrays for one frame.
"""

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.importers.imported import Imported, left_out, numbers, person, positive, turns
from svp_jax.face.importers.rigid import before_camera
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.flame import Flame
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.pickles import load_npz

PER_FRAME = {"rotation": 3, "translation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": None}
FIELDS = ("shape", *PER_FRAME)
EXPORT = "transforms.json"
_FRAME_RATE = Fraction(25)


def tracked_files(path: Path) -> list[Path]:
    """The files of tracked parameters in a folder by epoch, the last one at the end."""
    return sorted(path.glob("tracked_flame_params*.npz"), key=lambda file: int("0" + re.sub(r"\D", "", file.stem)))


def read_vhap(path: Path, model: Flame) -> Imported:
    """Reads a tracked_flame_params file, a folder that holds some (the last epoch is taken), or an export.

    Raises:
        UserError: arrays are missing, misshapen or not finite, there are several cameras, or a focal length that
            differs between x and y or between frames.
    """
    if path.is_dir() and (path / EXPORT).is_file():
        return _export(path, model)
    files = tracked_files(path) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds neither tracked_flame_params_*.npz nor {EXPORT}; give a folder of VHAP's output")
    return _tracked(files[-1], model)


def _tracked(path: Path, model: Flame) -> Imported:
    content, notes = load_npz(path), []
    parameters = _parameters(path, content, model, notes)
    if "focal_length" not in content:
        raise UserError(
            f"{path} has no focal_length, so its cameras were calibrated; export it with "
            "vhap/export_as_nerf_dataset.py and give that folder"
        )
    focal = float(positive(numbers(content, "focal_length", path, (1,)), "focal_length", path)[0])
    size = positive(numbers(content, "image_size", path, (2,)).astype(int), "image_size", path)
    height, width = size.tolist()
    camera = Camera(np.float32(focal * max(height, width)), np.float32([width / 2, height / 2]))
    placed = before_camera(model, parameters, np.eye(3), np.array([0.0, 0.0, -1.0]))
    frames = _frames(path, content.get("timestep_id", np.arange(len(parameters))), len(parameters))
    return Imported("vhap", placed, camera, frames, (height, width), _FRAME_RATE, tuple(notes))


def _export(folder: Path, model: Flame) -> Imported:
    path = folder / EXPORT
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
        cameras = {frame.get("camera_index", 0) for frame in frames}
        files = [folder / frame["flame_param_path"] for frame in frames]
        ids = [frame.get("timestep_id", frame["timestep_index"]) for frame in frames]
        intrinsics = [[frame[name] for name in ("fl_x", "fl_y", "cx", "cy", "h", "w")] for frame in frames]
        poses = [frame["transform_matrix"] for frame in frames]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not what VHAP exports (trouble with {error}); export it again") from None
    if len(cameras) > 1:
        raise UserError(f"{path} has {len(cameras)} cameras; allowed is one, leave the others out of its frames")
    if not frames:
        raise UserError(f"{path} has no frames; track the video again")
    world = numbers({"transform_matrix": poses}, "transform_matrix", path, (len(frames), 4, 4))
    camera, size = _one_camera(path, numbers({"camera": intrinsics}, "camera", path, (len(frames), 6)))
    content = [load_npz(file) for file in files]
    for file, arrays in zip(files, content, strict=True):
        for name in FIELDS:
            numbers(arrays, name, file, (None,) if name == "shape" else (1, PER_FRAME[name]))
    joined = {name: np.concatenate([arrays[name] for arrays in content]) for name in PER_FRAME} | {
        name: content[0][name] for name in ("shape", "static_offset", "dynamic_offset") if name in content[0]
    }
    notes: list[str] = []
    parameters = _parameters(folder, joined, model, notes)
    turn = turns(world[:, :3, :3], "transform_matrix", path).swapaxes(1, 2)
    placed = before_camera(model, parameters, turn, -np.einsum("bij,bj->bi", turn, world[:, :3, 3]))
    return Imported("vhap", placed, camera, _frames(path, ids, len(frames)), size, _FRAME_RATE, tuple(notes))


def _one_camera(path: Path, intrinsics: np.ndarray) -> tuple[Camera, tuple[int, int]]:
    fx, fy, cx, cy, height, width = intrinsics[0]
    positive(intrinsics[:1, [0, 1]], "fl_x, fl_y", path)
    positive(intrinsics[0, 4:].astype(int), "h, w", path)
    if np.abs(intrinsics - intrinsics[0]).max() > 1e-3 * fx or abs(fx - fy) > 1e-3 * fx:
        raise UserError(f"{path}: focal lengths or centres differ between x and y or frames; allowed is one camera")
    # y points upwards there.
    return Camera(np.float32(fx), np.float32([cx, height - cy])), (int(height), int(width))


def _parameters(path: Path, content: dict, model: Flame, notes: list[str]) -> FaceParameters:
    """The head in VHAP's world."""
    count = len(numbers(content, "rotation", path, (None, 3)))
    arrays = {name: numbers(content, name, path, (count, size)) for name, size in PER_FRAME.items()}
    for name in ("static_offset", "dynamic_offset"):
        if name in content and np.any(content[name]):
            most = 1000 * np.linalg.norm(content[name], axis=-1).max()
            notes.append(left_out(path, f"{name} (up to {most:.1f} mm)"))
    return person(
        model,
        path,
        notes,
        identity=numbers(content, "shape", path, (None,)),
        expression=arrays["expr"],
        rotation=arrays["rotation"],
        jaw=arrays["jaw_pose"],
        neck=arrays["neck_pose"],
        eyes=arrays["eyes_pose"],
        translation=arrays["translation"],
    )


def _frames(path: Path, names: object, count: int) -> np.ndarray:
    texts = [str(name) for name in np.ravel(names)]
    if len(texts) != count or not all(text.isdecimal() for text in texts):
        raise UserError(f"{path}: timestep_id must be {count} numbers of frames, found {texts[:3]}...; track it again")
    return np.array([int(text) for text in texts])
