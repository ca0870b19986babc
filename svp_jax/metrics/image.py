"""How close one picture is to another: MSE, PSNR and SSIM, over the whole picture or a mask."""

import cv2
import numpy as np

WINDOW = 7  # scikit-image's default: a uniform window
MARGIN = WINDOW // 2  # SSIM is averaged where the whole window lies in the picture
K1, K2 = 0.01, 0.03


def mse(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared error over pixels and channels.

    Args:
        image, reference: float [H, W, C] in [0, 1].
        mask: bool [H, W], the pixels that count; None: all. An empty mask gives NaN.
    """
    return masked_mean(squared_error_map(image, reference), mask)


def psnr(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal to noise ratio in dB for a peak of 1; infinite for equal pictures. Same arguments."""
    return decibels(mse(image, reference, mask))


def ssim(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity, as scikit-image's `structural_similarity(..., channel_axis=-1, data_range=1)`.

    That is Wang et al. (2004) with a uniform 7 x 7 window and sample covariances. With a mask, the SSIM map
    is averaged over the mask's pixels. Arguments as for `mse`; H and W at least 7.
    """
    inner = None if mask is None else mask[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return masked_mean(ssim_map(image, reference), inner)


def decibels(error: float) -> float:
    """The PSNR of a mean squared error on the 0..1 scale."""
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(error))


def squared_error_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """float64 [H, W, C]."""
    image, reference = _checked(image, reference)
    return np.square(image - reference)


def ssim_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """SSIM of each pixel and channel whose window lies in the picture, float64 [H - 6, W - 6, C]."""
    x, y = _checked(image, reference)
    if min(x.shape[:2]) < WINDOW:
        raise ValueError(f"image is {x.shape[0]} x {x.shape[1]}, allowed: at least {WINDOW} x {WINDOW}")

    def mean(values):
        filtered = cv2.boxFilter(values, cv2.CV_64F, (WINDOW, WINDOW)).reshape(values.shape)
        return filtered[MARGIN:-MARGIN, MARGIN:-MARGIN]

    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = mean(x), mean(y)
    variances = sample * (mean(x * x) + mean(y * y) - mean_x**2 - mean_y**2)
    covariance = sample * (mean(x * y) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
    return luminance * (2 * covariance + K2**2) / (variances + K2**2)


def masked_mean(values: np.ndarray, mask: np.ndarray | None) -> float:
    """Mean of [H, W, C] over channels and the pixels of `mask`, bool [H, W]; NaN where it is empty."""
    if mask is None:
        return float(values.mean())
    if mask.shape != values.shape[:2]:
        raise ValueError(f"mask is {mask.shape}, the picture {values.shape[:2]}")
    return float(values[mask].mean()) if mask.any() else float("nan")


def _checked(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64; ValueError for other shapes, or bytes, whose range is 0..255."""
    for name, picture in (("image", image), ("reference", reference)):
        if picture.ndim != 3 or not np.issubdtype(picture.dtype, np.floating):
            raise ValueError(f"{name} is {picture.dtype} {picture.shape}, allowed: float [H, W, C] in [0, 1]")
    if image.shape != reference.shape:
        raise ValueError(f"image is {image.shape}, reference {reference.shape}: they must have one shape")
    return image.astype(np.float64), reference.astype(np.float64)
