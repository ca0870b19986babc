"""How close one picture is to another: MSE, PSNR, L1 and SSIM, over the whole picture or a mask, and MS-SSIM.

Pictures are uint8 [H, W, C], where 255 stands for 1, or float [H, W, C] in [0, 1]; C is 1 to 4. Bytes give the same
numbers as the floats `picture / 255`, two to three times as fast: their window sums are whole numbers.
"""

from collections.abc import Iterator

import cv2
import numpy as np

WINDOW = 7  # scikit-image's default: a uniform window
MARGIN = WINDOW // 2  # SSIM is averaged where the whole window lies in the picture
K1, K2 = 0.01, 0.03
STRIP = 32  # Rows of SSIM that are computed at a time; other heights give the same numbers.

# Of MS-SSIM (Wang, Simoncelli and Bovik 2003): one weight a scale, the finest first, and a Gaussian window.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
GAUSSIAN_WINDOW, GAUSSIAN_SIGMA = 11, 1.5
# So that the coarsest scale holds one window: odd sides are rounded up when they are halved.
MS_SSIM_SIDE = (GAUSSIAN_WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1


def mse(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared error over pixels and channels, on the 0..1 scale.

    Args:
        image, reference: uint8, or float in [0, 1], [H, W, C].
        mask: bool [H, W], the pixels that count; None: all. An empty mask gives NaN.

    Raises:
        ValueError: pictures of other types or of two shapes, a mask of another shape.
    """
    return masked_mean(squared_error_map(image, reference), mask)


def l1(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean absolute error over pixels and channels, on the 0..1 scale. Arguments as for `mse`."""
    return masked_mean(absolute_error_map(image, reference), mask)


def psnr(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal to noise ratio in dB for a peak of 1; infinite for equal pictures. Arguments as for `mse`."""
    return decibels(mse(image, reference, mask))


def ssim(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity, as scikit-image's `structural_similarity(..., channel_axis=-1, data_range=1)`.

    That is Wang et al. (2004) with a uniform 7 x 7 window and sample covariances. With a mask, the SSIM map
    is averaged over the mask's pixels. Arguments as for `mse`; H and W at least 7.
    """
    inner = None if mask is None else mask[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return masked_mean(ssim_map(image, reference), inner)


def ms_ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), 1 for equal pictures.

    Five scales, 11 x 11 Gaussian window of sigma 1.5, averaged where the whole window lies in the picture: contrast and
    structure at the first four, and luminance too at the last. Where publications differ this follows the authors'
    own code: population covariances; 2 x 2 averages between the scales, an odd side's last row counted twice. What
    that leaves open for colours and negative values is as in TensorFlow's `ssim_multiscale` and pytorch_msssim: each
    channel has its product over the scales, these are averaged, and a negative mean counts as 0. (pytorch_msssim
    differs for odd sides, where it pads with zeros.)

    There is no mask: at the coarsest scale a window covers 176 pixels of the picture.

    Args:
        image, reference: uint8, or float in [0, 1], [H, W, C], H and W at least 161.

    Raises:
        ValueError: pictures that are smaller, of other types or of two shapes.
    """
    x, y, peak = checked_pair(image, reference)
    if min(x.shape[:2]) < MS_SSIM_SIDE:
        raise ValueError(f"image is {x.shape[0]} x {x.shape[1]}, allowed: at least {MS_SSIM_SIDE} x {MS_SSIM_SIDE}")
    x, y = x.astype(np.float64) / peak, y.astype(np.float64) / peak
    total = np.ones(x.shape[2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y = _halved(x), _halved(y)
        total *= np.maximum(_mean_similarity(x, y, scale == len(SCALE_WEIGHTS) - 1), 0) ** weight
    return float(total.mean())


def decibels(error: float) -> float:
    """The PSNR of a mean squared error on the 0..1 scale."""
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(error))


def squared_error_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """[H, W, C] on the 0..1 scale: float32 of bytes, float64 of floats."""
    image, reference, peak = checked_pair(image, reference)
    error = cv2.absdiff(image, reference)
    depth = cv2.CV_32F if peak == 255 else cv2.CV_64F
    return cv2.multiply(error, error, scale=1 / peak**2, dtype=depth).reshape(image.shape)


def absolute_error_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """[H, W, C] on the 0..1 scale: float32 of bytes, float64 of floats."""
    image, reference, peak = checked_pair(image, reference)
    error = cv2.absdiff(image, reference).reshape(image.shape)
    return error if peak == 1 else np.multiply(error, np.float32(1 / peak))


def ssim_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """SSIM of each pixel and channel whose window lies in the picture, [H - 6, W - 6, C].

    float32 of bytes, each within 1e-6 of what floats give; float64 of floats.
    """
    x, y, peak = checked_pair(image, reference)
    if min(x.shape[:2]) < WINDOW:
        raise ValueError(f"image is {x.shape[0]} x {x.shape[1]}, allowed: at least {WINDOW} x {WINDOW}")
    count = WINDOW**2
    # Not divided by the count of pixels, sums of bytes are whole numbers, and so is all up to the last quotient: the
    # largest, 2 * 49^2 * 255^2, is below 2^31.
    c1, c2 = (K1 * peak * count) ** 2, (K2 * peak) ** 2 * count * (count - 1)
    height, width, channels = x.shape
    values = np.empty((height - 2 * MARGIN, width - 2 * MARGIN, channels), np.float32 if peak == 255 else np.float64)
    for strip in _strips(height, WINDOW):
        sums = map(_window_sums, _moments(x[strip], y[strip]))
        structure, luminance = _structure_and_luminance(*sums, count, c1, c2)
        np.multiply(structure, luminance, out=values[strip.start : strip.stop - 2 * MARGIN])
    return values


def masked_mean(values: np.ndarray, mask: np.ndarray | None) -> float:
    """Mean of [H, W, C] over channels and the pixels of `mask`, bool [H, W]; NaN where it is empty.

    Sums are taken in double precision, whatever the values' own.
    """
    if mask is None:
        return float(values.mean(dtype=np.float64))
    if mask.shape != values.shape[:2] or mask.dtype != bool:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}, allowed for this picture: bool {values.shape[:2]}")
    if not mask.any():
        return float("nan")
    # Much faster than to pick the pixels out; the mean has four numbers, of which the first belong to the channels.
    channels = values.shape[2] if values.ndim == 3 else 1
    return float(np.mean(cv2.mean(values, np.ascontiguousarray(mask).view(np.uint8))[:channels]))


def checked_pair(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Both contiguous, as they are where they are bytes, else as float64; and the value that stands for 1.

    Raises:
        ValueError: they are no such pictures as the module's text says, or of two shapes or kinds.
    """
    for name, picture in (("image", image), ("reference", reference)):
        known = picture.dtype == np.uint8 or np.issubdtype(picture.dtype, np.floating)
        if picture.ndim != 3 or not 1 <= picture.shape[2] <= 4 or not known:
            raise ValueError(
                f"{name} is {picture.dtype} {picture.shape}, allowed: uint8, or float in [0, 1], [H, W, C], C up to 4"
            )
    if image.shape != reference.shape:
        raise ValueError(f"image is {image.shape}, reference {reference.shape}: they must have one shape")
    if (image.dtype == np.uint8) != (reference.dtype == np.uint8):
        raise ValueError(f"image is {image.dtype}, reference {reference.dtype}: both must be bytes, or both floats")
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image), np.ascontiguousarray(reference), 255
    return np.ascontiguousarray(image, np.float64), np.ascontiguousarray(reference, np.float64), 1


def _mean_similarity(x: np.ndarray, y: np.ndarray, with_luminance: bool) -> np.ndarray:
    """Contrast and structure, or SSIM, of float64 [H, W, C], averaged over Gaussian windows: [C]."""
    height, width, channels = x.shape
    total = np.zeros(channels)
    for strip in _strips(height, GAUSSIAN_WINDOW):
        means = map(_gaussian_means, _moments(x[strip], y[strip]))
        values, luminance = _structure_and_luminance(*means, 1, K1**2, K2**2)
        if with_luminance:
            values *= luminance
        total += cv2.sumElems(values)[:channels]
    return total / ((height - GAUSSIAN_WINDOW + 1) * (width - GAUSSIAN_WINDOW + 1))


def _strips(height: int, window: int) -> Iterator[slice]:
    """Rows to look at one after the other, few enough to stay in the cache; they overlap by a window less a row."""
    inner = height - window + 1
    for top in range(0, inner, STRIP):
        yield slice(top, min(top + STRIP, inner) + window - 1)


def _moments(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """x, y, x^2 + y^2 and x y, before they are averaged over windows; whole numbers of bytes."""
    if x.dtype == np.uint8:
        product = cv2.multiply(x, y, dtype=cv2.CV_16U).reshape(x.shape)
        squares = np.square(x, dtype=np.int32)
        squares += np.square(y, dtype=np.int32)
        return x, y, squares, product
    squares = x * x
    squares += y * y
    return x, y, squares, x * y


def _window_sums(values: np.ndarray) -> np.ndarray:
    """Sums over the windows that lie in the picture, int32 of whole numbers, else float64."""
    depth = cv2.CV_64F if values.dtype == np.float64 else cv2.CV_32S
    # What the filter takes for the outside of the picture is not looked at.
    sums = cv2.boxFilter(values, depth, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(sums.reshape(values.shape)[MARGIN:-MARGIN, MARGIN:-MARGIN])


def _gaussian_means(values: np.ndarray) -> np.ndarray:
    kernel, margin = cv2.getGaussianKernel(GAUSSIAN_WINDOW, GAUSSIAN_SIGMA, cv2.CV_64F), GAUSSIAN_WINDOW // 2
    means = cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(means.reshape(values.shape)[margin:-margin, margin:-margin])


def _structure_and_luminance(
    x: np.ndarray, y: np.ndarray, squares: np.ndarray, product: np.ndarray, count: int, c1: float, c2: float
) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of SSIM, of sums over windows of `count` pixels, which are overwritten.

    Args:
        x, y, squares, product: of x, y, x^2 + y^2 and x y.
        c1: the constant of the luminance, times count^2. c2: of the structure, times count^2 for population
            covariances, count (count - 1) for sample covariances.
    """
    kind = np.float32 if x.dtype == np.int32 else np.float64
    cross = x * y
    both = np.square(x, out=x)
    both += np.square(y, out=y)
    covariance, variances = product, squares
    covariance *= count
    covariance -= cross
    covariance *= 2
    variances *= count
    variances -= both
    cross *= 2
    structure, cross = covariance.astype(kind, copy=False), cross.astype(kind, copy=False)
    variances, both = variances.astype(kind, copy=False), both.astype(kind, copy=False)
    structure += kind(c2)
    variances += kind(c2)
    cross += kind(c1)
    both += kind(c1)
    structure /= variances
    cross /= both
    return structure, cross


def _halved(picture: np.ndarray) -> np.ndarray:
    """Averages of 2 x 2 pixels; an odd side's last row or column counts twice."""
    height, width, _ = picture.shape
    picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = picture[::2] + picture[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) / 4
