"""EMOCA (Danecek et al. 2022; github.com/radekd91/emoca) and its successor inferno's FaceReconstruction.

test_emoca_on_video.py with --save_codes True leaves, for a video, one folder:

    videos/000001.png ...                 the frames, numbered from 1
    detections/bboxes.pkl                 four pickles: names of crops, their centres, sizes, the last frame
                                          (gdl/datasets/FaceDataModuleBase.py, save_detections)
    results/EMOCA/000001_000/*.npy        a folder for each face of each frame (gdl_apps/EMOCA/utils/io.py, save_codes):
        shape [100], exp [50]             of FLAME; each frame has its own shape, the person's is their mean
        pose [6]                          axis-angle: the head about the root joint, the jaw; inferno has globalpose
                                          and jawpose [3] instead
        cam [3]                           see `weak_perspective`; inferno saves it, EMOCA's save_codes needs a line more

Of several faces in a frame the one nearest to that of the frame before is taken, at first the largest.
"""

import re
from pathlib import Path

import cv2
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.importers.imported import Imported, numbers, person
from svp_jax.face.importers.weak_perspective import box_transform, placed
from svp_jax.face.morphable.flame import Flame
from svp_jax.face.pickles import load_npy, load_pickles


def result_folders(path: Path) -> list[Path]:
    """The folders of results, one for each model, in the folder of a video; or `path` itself where it is one."""
    candidates = [path, *sorted((path / "results").glob("*"))]
    return [folder for folder in candidates if next(folder.glob("*/exp.npy"), None) is not None]


def read_emoca(path: Path, model: Flame) -> Imported:
    """Reads the folder of a video, or one of its results.

    Raises:
        UserError: codes, crops or frames are missing or not finite, or there are results of several models.
    """
    folders = result_folders(path)
    if len(folders) != 1:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise UserError(f"{path} must hold codes (exp.npy) of one model, found {found}; give one folder in results/")
    video = folders[0].parent.parent
    names = _followed(_boxes(video / "detections" / "bboxes.pkl"), {item.parent.name for item in _codes(folders[0])})
    if not names:
        raise UserError(f"{folders[0]} has no frame that is in {video / 'detections'}; give the output of one run")
    codes = [_frame(folders[0] / name) for name in names]
    stacked = {key: np.stack([code[key] for code in codes]) for key in codes[0]}
    tform = np.stack([box_transform(centre, size) for centre, size in names.values()])
    notes: list[str] = []
    translation, camera = placed(stacked["cam"], tform, path)
    parameters = person(
        model,
        path,
        notes,
        identity=stacked["shape"],
        expression=stacked["exp"],
        rotation=stacked["pose"][:, :3],
        jaw=stacked["pose"][:, 3:],
        translation=translation,
    )
    # ffmpeg, which the tool uses, numbers from 1.
    frames = np.array([_number(name) - 1 for name in names])
    return Imported("emoca", parameters, camera, frames, _image_size(video / "videos"), notes=tuple(notes))


def _codes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/exp.npy"))


def _number(name: str) -> int:
    found = re.fullmatch(r"(\d+)_\d+", name)
    if not found:
        raise UserError(f"{name} is not named as EMOCA names faces of videos (000001_000); run it on a video")
    return int(found[1])


def _frame(folder: Path) -> dict[str, np.ndarray]:
    def code(name: str, size: int | None) -> np.ndarray:
        path = folder / f"{name}.npy"
        if not path.is_file():
            more = "; add it to save_codes as docs/importers.md says" if name == "cam" else "; run with --save_codes"
            raise UserError(f"{folder} lacks {path.name}{more}")
        return numbers({name: np.ravel(load_npy(path))}, name, folder, (size,))

    if (folder / "globalpose.npy").is_file():
        pose = np.concatenate([code("globalpose", 3), code("jawpose", 3)])
    else:
        pose = code("pose", 6)
    return {"shape": code("shape", None), "exp": code("exp", None), "pose": pose, "cam": code("cam", 3)}


def _boxes(path: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Centre [2] and size of each crop in pixels of the video, by its name."""
    content = load_pickles(path)
    if len(content) < 3 or not all(isinstance(part, list) for part in content[:3]):
        raise UserError(f"{path} is not what EMOCA writes (names, centres and sizes of crops); run it again")
    boxes = {}
    for names, centres, sizes in zip(*content[:3], strict=False):
        for name, centre, size in zip(names, centres, sizes, strict=False):
            box = numbers({"box": [*np.ravel(centre), size]}, "box", path, (3,))
            boxes[Path(str(name)).stem] = (box[:2], float(box[2]))
    return boxes


def _followed(boxes: dict, with_codes: set[str]) -> dict:
    """One face in each frame."""
    by_frame: dict[int, dict] = {}
    for name in sorted(with_codes & boxes.keys()):
        by_frame.setdefault(_number(name), {})[name] = boxes[name]
    chosen, last = {}, None
    for frame in sorted(by_frame):
        faces = by_frame[frame]
        if last is None:
            name = max(faces, key=lambda name: faces[name][1])
        else:
            name = min(faces, key=lambda name: np.linalg.norm(faces[name][0] - last))
        last = faces[name][0]
        chosen[name] = faces[name]
    return chosen


def _image_size(folder: Path) -> tuple[int, int]:
    frame = next(iter(sorted(folder.glob("*.png"))), None)
    picture = None if frame is None else cv2.imread(str(frame))
    if picture is None:
        raise UserError(f"{folder} holds no frame of the video (000001.png), which tells its size; keep one there")
    return picture.shape[:2]
