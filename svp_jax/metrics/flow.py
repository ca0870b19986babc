"""Optical flow: how the picture moves from one frame to the next, and which pixels both frames show.

All flow is Farnebäck's (2003), from OpenCV, with TecoGAN's settings (Chu et al. 2020, its `metrics.py`). It needs no
weights, gives the same numbers with any number of threads, and invents less motion in flat backgrounds than OpenCV's
inverse search does. Flow is float32 [H, W, 2], (x, y) in pixels at the picture's own size. Where nothing moves it is
0 up to rounding, but at the borders, where it may be a few tenths of a pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np

FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
# Of flow in squared pixels (Sundaram et al. 2010, as Ruder et al. 2016 use it): how far there and back may miss, and
# how much neighbours may differ; each a share of the squared flow and a constant.
CONSISTENT = (0.01, 0.5)
SMOOTH = (0.01, 0.002)


@dataclass(frozen=True)
class Motion:
    """How two consecutive frames of a video move.

    Attributes:
        forward: flow from the frame before to this one. backward: from this one to the frame before.
        visible: bool [H, W], see `visible`.
    """

    forward: np.ndarray
    backward: np.ndarray
    visible: np.ndarray


def motion_between(before: np.ndarray, now: np.ndarray) -> Motion:
    """The motion between two consecutive frames uint8 [H, W, 3] RGB."""
    forward, backward = optical_flow(before, now), optical_flow(now, before)
    return Motion(forward, backward, visible(backward, forward))


def optical_flow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Where each pixel of `start` is found in `end`, minus where it is.

    Args:
        start, end: uint8 [H, W, 3] RGB; their grey values are compared.

    Raises:
        ValueError: pictures of another kind, or of two shapes.
    """
    for name, picture in (("start", start), ("end", end)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{name} is {picture.dtype} {picture.shape}, allowed: uint8 [H, W, 3]")
    if start.shape != end.shape:
        raise ValueError(f"start is {start.shape}, end {end.shape}: they must have one shape")
    grays = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (start, end)]
    return cv2.calcOpticalFlowFarneback(*grays, None, **FARNEBACK)


def warp(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What `picture` float32 [H, W, C] shows where `flow` points from each pixel, linearly between pixels.

    Outside the picture that is the nearest pixel of its edge.
    """
    x, y = _targets(flow)
    warped = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped.reshape(picture.shape)


def visible(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Pixels of a frame that the other frame shows too, as far as flow can tell: bool [H, W].

    Left out are, as in Lai et al. (2018), whose evaluation code has these limits:

    - occlusions: |w + b|^2 > 0.01 (|w|^2 + |b|^2) + 0.5, for the flow w of a pixel and the flow b back from where it
      points;
    - edges between motions, where flow is unsure: |du|^2 + |dv|^2 > 0.01 |w|^2 + 0.002, du and dv the differences of
      w to the next column and row;

    and, our addition, pixels whose flow points more than half a pixel out of the picture.

    Args:
        flow: from this frame to the other. back: from the other frame to this one.
    """
    there = np.square(flow).sum(axis=-1)
    returned = warp(back, flow)
    share, constant = CONSISTENT
    consistent = np.square(flow + returned).sum(axis=-1) <= share * (there + np.square(returned).sum(-1)) + constant
    change = np.zeros_like(there)
    change[:, :-1] += np.square(np.diff(flow, axis=1)).sum(axis=-1)
    change[:-1] += np.square(np.diff(flow, axis=0)).sum(axis=-1)
    share, constant = SMOOTH
    smooth = change <= share * there + constant
    x, y = _targets(flow)
    inside = (x >= -0.5) & (x <= flow.shape[1] - 0.5) & (y >= -0.5) & (y <= flow.shape[0] - 0.5)
    return consistent & smooth & inside


def _targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column and row that flow points to, float32 [H, W] each; pixel centres lie at whole numbers."""
    height, width, _ = flow.shape
    return flow[..., 0] + np.arange(width, dtype=np.float32), flow[..., 1] + np.arange(height, dtype=np.float32)[
        :, None
    ]
