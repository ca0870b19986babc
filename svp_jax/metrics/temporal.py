"""How a video moves: against its reference, and by itself.

Each metric but `landmark_jitter` looks at two consecutive frames of one shot, so that a video of any length streams
through. Pictures are as in `image`: uint8, or float in [0, 1], [H, W, C]. A mask is bool [H, W]; None: all pixels. For
a mask that moves, give the pixels of either frame's mask. An empty mask gives NaN.
"""

import cv2
import numpy as np

from svp_jax.face.morphable.multi_pie import INNER, points_of
from svp_jax.metrics.flow import Motion, warp
from svp_jax.metrics.image import absolute_error_map, checked_pair, masked_mean, squared_error_map


def smoothness(images: np.ndarray, references: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Mean of |(r_n - r_(n-1)) - (g_n - g_(n-1))| of each pair of consecutive frames; our own definition.

    0 means: moves exactly as the reference does. A constant error costs nothing, flicker and wobble do.

    Args:
        images, references: uint8, or float in [0, 1], [N, H, W, C], consecutive frames of one shot.
        masks: bool [N, H, W]; a pixel counts for a pair where either frame's mask has it. None: all pixels.

    Returns:
        float64 [N - 1]; NaN where both masks are empty.
    """
    if images.shape != references.shape:
        raise ValueError(f"images are {images.shape}, references {references.shape}: they must have one shape")
    values = []
    for now in range(1, len(images)):
        errors = motion_error_map(images[now - 1], images[now], references[now - 1], references[now])
        values.append(masked_mean(errors, None if masks is None else masks[now - 1] | masks[now]))
    return np.array(values, np.float64)


def motion_error_map(
    before: np.ndarray, now: np.ndarray, reference_before: np.ndarray, reference_now: np.ndarray
) -> np.ndarray:
    """|(r_n - r_(n-1)) - (g_n - g_(n-1))| on the 0..1 scale, [H, W, C]: float32 of bytes, float64 of floats.

    Its mean is the `smoothness` of one pair of frames; several masks share it.
    """
    errors = []
    for image, reference in ((before, reference_before), (now, reference_now)):
        image, reference, peak = checked_pair(image, reference)
        errors.append(cv2.subtract(image, reference, dtype=cv2.CV_16S if peak == 255 else cv2.CV_64F))
    change = cv2.absdiff(*errors).reshape(now.shape)
    return np.multiply(change, np.float32(1 / 255)) if change.dtype == np.int16 else change


def flicker(before: np.ndarray, now: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of |r_n - r_(n-1)| over pixels and channels, on the 0..1 scale.

    Motion counts too, so that the number says something only beside the reference's own, which is taken the same way.
    """
    return masked_mean(absolute_error_map(now, before), mask)


def warping_error(before: np.ndarray, now: np.ndarray, motion: Motion, mask: np.ndarray | None = None) -> float:
    """Mean squared difference between a frame and the frame before it, moved as the reference moves (Lai et al. 2018).

    Squares are of the 0..1 scale, averaged over channels and over the pixels that both frames show. The source takes
    its flow from the unprocessed video by FlowNet2 and warps the later frame to the earlier; here the flow is the
    reference's by `flow`, and the earlier frame is warped to the later, whose mask counts.

    Args:
        motion: between the same two frames of the reference, of `flow.motion_between`.

    Returns:
        NaN where no pixel of the mask is seen in both frames.
    """
    before, now, peak = checked_pair(before, now)
    scale = np.float32(1 / peak)
    moved = warp(before.astype(np.float32) * scale, motion.backward)
    seen = motion.visible if mask is None else motion.visible & mask
    return masked_mean(squared_error_map(moved, now.astype(np.float32) * scale), seen)


def tof(flow: np.ndarray, reference_flow: np.ndarray, mask: np.ndarray | None = None) -> float:
    """tOF of TecoGAN (Chu et al. 2020): how far apart two videos move from one frame to the next, in pixels.

    The mean length of the difference between both videos' flow, at the pictures' own size: twice the size gives twice
    the number. That is the authors' code (their paper writes an L1 norm); which also cuts 16 pixels or more off the
    borders for all its metrics, as is not done here.

    Args:
        flow, reference_flow: [H, W, 2], of `flow.optical_flow` from the frame before to this one.
    """
    if flow.shape != reference_flow.shape:
        raise ValueError(f"flow is {flow.shape}, reference_flow {reference_flow.shape}: they must have one shape")
    return masked_mean(np.linalg.norm(flow - reference_flow, axis=-1), mask)


def tlpips(distances: np.ndarray, reference_distances: np.ndarray) -> np.ndarray:
    """tLPIPS (tLP) of TecoGAN (Chu et al. 2020): |LPIPS(r_(n-1), r_n) - LPIPS(g_(n-1), g_n)|, float64 [...].

    Its code prints 100 times that.

    Args:
        distances, reference_distances: [...], LPIPS between the frame before and this one, of both videos.
    """
    return np.abs(np.asarray(distances, np.float64) - np.asarray(reference_distances, np.float64))


def landmark_jitter(landmarks: np.ndarray, follows: np.ndarray) -> float:
    """Mean absolute second difference over time of tracked landmarks' x and y, in pixels.

    Over brows, eyes, nose and lips, as the jitter of a fitted face is measured. Motion counts too: compare it with the
    reference's own.

    Args:
        landmarks: [N, L, 2 or 3] in pixels, MediaPipe's 478 or the 70 of Multi-PIE; NaN without a face.
        follows: bool [N], this frame comes right after the one before it, in the same shot.

    Returns:
        NaN where no three frames with a face follow each other.
    """
    follows = np.asarray(follows, bool)
    if len(landmarks) != len(follows):
        raise ValueError(f"landmarks are of {len(landmarks)} frames, follows of {len(follows)}: must be equal")
    points = points_of(landmarks)[:, INNER, :2].astype(np.float64)
    change = np.abs(np.diff(points, n=2, axis=0)).mean(axis=(1, 2))
    known = follows[2:] & follows[1:-1] & np.isfinite(change)
    return float(change[known].mean()) if known.any() else float("nan")
