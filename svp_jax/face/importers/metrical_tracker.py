"""metrical-tracker (Zielon et al. 2022; github.com/Zielon/metrical-tracker), the tracker of MICA and INSTA.

tracker.py leaves a folder with checkpoint/<frame>.frame, written by torch.save (save_checkpoint), of NumPy arrays:

    flame: exp [1, 100], shape [1, 300], jaw [1, 6], eyes [1, 12] (left eye first), eyelids [1, 2], and light
    opencv: R [1, 3, 3], t [1, 3], K [1, 3, 3]      the camera, x right, y down, looking along z
    img_size [2]                                    height and width of the pictures that it tracked
    frame_id                                        numbers from 0 on, at config.fps (25) frames a second

Rotations are the first two rows of a matrix (PyTorch3D's rotation_6d_to_matrix; flame/lbs.py). The head itself does not
turn: the camera goes round it, and after the first frames only that moves. Eyelids are the tool's own blend shapes.

The pictures are a square cut from the video (datasets/generate_dataset.py, image.py). Where bbox.pt and one picture of
source/, both in the tool's input folder, are copied beside checkpoint/, the camera is given in the video's pixels.
"""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.importers.imported import Imported, left_out, numbers, person, positive, turns
from svp_jax.face.importers.rigid import before_camera
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.flame import Flame
from svp_jax.face.morphable.rotation import vector
from svp_jax.face.pickles import load_torch

# OpenCV's axes point right, down and forward.
_FLIP = np.diag([1.0, -1.0, -1.0])
_FRAME_RATE = Fraction(25)


def frame_files(path: Path) -> list[Path]:
    """The checkpoints in a folder of the tool's output, or in its checkpoint folder."""
    return sorted([*path.glob("checkpoint/*.frame"), *path.glob("*.frame")])


def read_metrical_tracker(path: Path, model: Flame) -> Imported:
    """Reads a folder of the tool's output.

    Raises:
        UserError: a checkpoint is damaged, lacks something or holds numbers that are not finite; the camera's lens
            differs between frames; bbox.pt without a picture of source/.
    """
    files = frame_files(path)
    if not files:
        raise UserError(f"{path} holds no checkpoint/*.frame; give a folder of metrical-tracker's output")
    frames = [_frame(file) for file in files]
    arrays = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    notes = [left_out(path, "what closes the eyelids")] if arrays["eyelids"].any() else []
    if np.ptp(arrays["img_size"], 0).any():
        raise UserError(f"{path} holds pictures of several sizes; give the output of one run")
    head = person(
        model,
        path,
        notes,
        identity=arrays["shape"],
        expression=arrays["exp"],
        rotation=np.zeros((len(frames), 3)),
        jaw=vector(_matrix(arrays["jaw"])),
        eyes=vector(_matrix(arrays["eyes"].reshape(-1, 2, 6))).reshape(-1, 6),
        translation=np.zeros((len(frames), 3)),
    )
    placed = before_camera(model, head, _FLIP @ arrays["R"], arrays["t"] @ _FLIP)
    camera, size = _in_video(path, _lens(path, arrays["K"]), tuple(arrays["img_size"][0].tolist()))
    numbered = np.array([_number(file) for file in files])
    return Imported("metrical-tracker", placed, camera, numbered, size, _FRAME_RATE, tuple(notes))


def _frame(path: Path) -> dict[str, np.ndarray]:
    content = load_torch(path)
    parts = {name: content.get(name) for name in ("flame", "opencv")} if isinstance(content, dict) else {}
    for name in ("flame", "opencv"):
        if not isinstance(parts.get(name), dict):
            raise UserError(f"{path} lacks {name}; give a checkpoint of metrical-tracker")
    flame, camera = parts["flame"], parts["opencv"]
    sizes = {"exp": None, "shape": None, "jaw": 6, "eyes": 12, "eyelids": 2}
    arrays = {name: numbers(flame, name, path, (1, size))[0] for name, size in sizes.items()}
    arrays |= {name: numbers(camera, name, path, (1, 3, 3))[0] for name in ("R", "K")}
    turns(arrays["R"], "R", path)
    positive(arrays["K"][[0, 1], [0, 1]], "the focal length in K", path)
    size = positive(numbers(content, "img_size", path, (2,)).astype(int), "img_size", path)
    return arrays | {"t": numbers(camera, "t", path, (1, 3))[0], "img_size": size}


def _number(path: Path) -> int:
    if not path.stem.isdecimal():
        raise UserError(f"{path}: its name is no frame's number; give the checkpoints as the tool named them")
    return int(path.stem)


def _matrix(rows: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of their first two rows [..., 6], which need not be orthonormal (Zhou et al.)."""
    first = rows[..., :3] / np.linalg.norm(rows[..., :3], axis=-1, keepdims=True)
    second = rows[..., 3:] - (first * rows[..., 3:]).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _lens(path: Path, matrices: np.ndarray) -> Camera:
    """The one camera of all frames' intrinsic matrices [B, 3, 3]."""
    first = matrices[0]
    focal = first[0, 0]
    if np.abs(matrices - first).max() > 1e-3 * focal or abs(first[1, 1] - focal) > 1e-3 * focal:
        raise UserError(f"{path}: focal length or centre differ between frames; allowed is one run with one camera")
    return Camera(np.float32(focal), first[:2, 2].astype(np.float32))


def _in_video(path: Path, camera: Camera, size: tuple[int, int]) -> tuple[Camera, tuple[int, int]]:
    """The camera and the size of its pictures; those of the video where it is known what was cut from it."""
    if not (path / "bbox.pt").is_file():
        return camera, size
    left, right, top, bottom = numbers({"bbox": load_torch(path / "bbox.pt")}, "bbox", path / "bbox.pt", (4,))
    source = next((file for file in sorted((path / "source").glob("*")) if file.suffix in (".png", ".jpg")), None)
    picture = None if source is None else cv2.imread(str(source))
    if picture is None:
        raise UserError(f"{path} has bbox.pt but no picture in source/, which tells the video's size; copy one there")
    if size[0] != size[1]:
        raise UserError(f"{path}: pictures of {size[0]} x {size[1]} were not squares cut by bbox.pt; take it away")
    # image.py: the box is made a square with a margin on both sides, then scaled.
    side = max(right - left, bottom - top)
    positive(side, "the size of bbox", path / "bbox.pt")
    corner = np.array([left - (side - (right - left)) // 2, top - (side - (bottom - top)) // 2])
    whole = camera.scaled(side / size[0])
    return Camera(whole.focal, (whole.centre + corner).astype(np.float32)), picture.shape[:2]
