"""The metrics that need no network: frames a second."""

import itertools
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from svp_jax.metrics.flow import motion_between, optical_flow
from svp_jax.metrics.image import l1, ms_ssim, ssim
from svp_jax.metrics.meters.pictures import PictureMeter
from svp_jax.metrics.score import score
from svp_jax.metrics.temporal import flicker, tof, warping_error

FRAMES = 48


def benchmark_metrics(repeats: int) -> None:
    """Frames a second at 256 x 256 and 512 x 512, the fastest of `repeats` runs over 48 frames in memory."""
    print(f"{'':46}{'256 x 256':>14}{'512 x 512':>14}")
    columns = [_rates(size, repeats) for size in (256, 512)]
    for name in columns[0]:
        print(f"{name:46}{columns[0][name]:>12.1f}/s{columns[1][name]:>12.1f}/s", flush=True)
    ours, theirs = "SSIM", "SSIM by scikit-image"
    ratios = [f"{column[ours] / column[theirs]:>13.1f}x" for column in columns]
    print(f"{'SSIM, times as fast as scikit-image':46}{''.join(ratios)}")


def _rates(size: int, repeats: int) -> dict[str, float]:
    """Name of what is measured -> frames a second."""
    references = list(_video(size, seed=0, noise=3))
    images = list(_video(size, seed=1, noise=9))
    mask = np.zeros((size, size), bool)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = True
    motion = motion_between(*references[:2])

    def of_frames(metric: Callable) -> Callable:
        return lambda: [metric(*pair) for pair in zip(images, references, strict=True)]

    def of_pairs(metric: Callable, count: int = FRAMES) -> Callable:
        return lambda: [metric(*pair) for pair in itertools.pairwise(images[:count])]

    # What takes long is measured over fewer frames.
    measured = {
        "svp evaluate --metrics pictures, two regions": (lambda: _scored(images, references, mask), FRAMES),
        "SSIM": (of_frames(ssim), FRAMES),
        "SSIM by scikit-image": (of_frames(lambda *pair: structural_similarity(*pair, channel_axis=-1)), FRAMES),
        "L1": (of_frames(l1), FRAMES),
        "MS-SSIM": (of_frames(ms_ssim), FRAMES),
        "flicker": (of_pairs(flicker), FRAMES),
        "motion of the reference": (of_pairs(motion_between, 8), 7),
        "tOF, given that motion": (of_pairs(lambda *pair: tof(optical_flow(*pair), motion.forward), 8), 7),
        "warping error, given that motion": (of_pairs(lambda *pair: warping_error(*pair, motion)), FRAMES),
    }
    return {name: count / _fastest(run, repeats) for name, (run, count) in measured.items()}


def _scored(images: list[np.ndarray], references: list[np.ndarray], mask: np.ndarray) -> None:
    """PSNR, SSIM, MSE, L1, smoothness and flicker of the frame and the face."""
    masks = [{"full": None, "face": mask}] * len(images)
    meter = PictureMeter(len(images), 1, ["full", "face"], *mask.shape)
    score([images], references, masks, [number > 0 for number in range(len(images))], [meter])


def _video(size: int, seed: int, noise: int) -> Iterator[np.ndarray]:
    """Frames uint8 [size, size, 3] of a texture that moves by a pixel a frame, with noise of its own in each."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8), (0, 0), 3)
    for number in range(FRAMES):
        noisy = np.roll(texture, number, axis=1) + rng.integers(-noise, noise + 1, texture.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def _fastest(run: Callable, repeats: int) -> float:
    """Seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
