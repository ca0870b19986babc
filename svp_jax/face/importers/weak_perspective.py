"""The cameras of DECA and of what followed it: orthographic, within a crop of the video.

DECA's formula (decalib/utils/util.py, batch_orth_proj; decalib/deca.py, decode; decalib/utils/tensor_cropper.py,
transform_points): a point X of the posed head lies at n = s (X + t) with cam = [s, tx, ty], y upwards; in the crop of
S x S pixels at (n / 2 + 1 / 2) S, y downwards; in the video at the inverse of `tform` of that.

Ours is a perspective camera, so the head is put `DISTANCE` away and seen through a telephoto lens. A point d metres
before or behind FLAME's origin then moves by d / DISTANCE of its distance from the optical axis, which goes through the
head's mean place: for d = 0.15 m and 400 pixels by 0.3 pixels, the largest error for a head that fills 800 pixels.
"""

from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.morphable.camera import Camera

# In metres. Further away float32 would show in the normals: there it counts in steps of 0.015 mm.
DISTANCE = 200.0
CROP = 224


def placed(cam: np.ndarray, tform: np.ndarray, where: Path) -> tuple[np.ndarray, Camera]:
    """Translations [B, 3] and the camera that show the head where a tool saw it.

    Args:
        cam: [B, 3], scale and shift.
        tform: [B, 3, 3], from pixels of the video to pixels of the crop, a scale and a shift (what
            skimage's estimate_transform gives for the tools' boxes).

    Raises:
        UserError: a scale that is not positive, a transform that turns or stretches.
    """
    if (cam[:, 0] <= 0).any():
        frame = int(np.argmax(cam[:, 0] <= 0))
        raise UserError(f"{where}: the scale cam[0] of frame {frame} is {cam[frame, 0]:g}, allowed is above 0")
    zoom = tform[:, 0, 0]
    straight = np.zeros_like(tform)
    straight[:, 0, 0] = straight[:, 1, 1] = zoom
    straight[:, 2, 2] = 1
    straight[:, :2, 2] = tform[:, :2, 2]
    off = np.abs(tform - straight).max((1, 2)) > 1e-4 * np.abs(zoom)
    if off.any() or (zoom <= 0).any():
        frame = int(np.argmax(off | (zoom <= 0)))
        raise UserError(
            f"{where}: tform of frame {frame} turns, stretches or mirrors; allowed is a scale and a shift from the "
            "video to the crop (tform.params): let the tool crop the face"
        )
    scale, shift = cam[:, :1], cam[:, 1:] * [1, -1]
    # Where FLAME's origin lies in the video, and pixels per metre there.
    origin = (CROP / 2 * (1 + scale * shift) - tform[:, :2, 2]) / zoom[:, None]
    density = scale[:, 0] * CROP / 2 / zoom
    focal, centre = DISTANCE * np.median(density), origin.mean(0)
    sideways = (origin - centre) / density[:, None] * [1, -1]
    translation = np.concatenate([sideways, -focal / density[:, None]], axis=1)
    return translation, Camera(np.float32(focal), centre.astype(np.float32))


def box_transform(centre: np.ndarray, size: float) -> np.ndarray:
    """`tform` [3, 3] of a square box in the video (gdl/datasets/ImageDatasetHelpers.py, point2transform)."""
    zoom = (CROP - 1) / size
    transform = np.diag([zoom, zoom, 1.0])
    transform[:2, 2] = -zoom * (np.asarray(centre, np.float64) - size / 2)
    return transform
