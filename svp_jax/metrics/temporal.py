"""How a video moves, compared with its reference."""

import numpy as np

from svp_jax.metrics.image import masked_mean


def smoothness(images: np.ndarray, references: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Mean of |(r_n - r_(n-1)) - (g_n - g_(n-1))| of each pair of consecutive frames; our own definition.

    0 means: moves exactly as the reference does. A constant error costs nothing, flicker and wobble do.

    Args:
        images, references: float [N, H, W, C] in [0, 1], consecutive frames of one shot.
        masks: bool [N, H, W]; a pixel counts for a pair where either frame's mask has it. None: all pixels.

    Returns:
        float64 [N - 1]; NaN where both masks are empty.
    """
    if images.shape != references.shape:
        raise ValueError(f"images are {images.shape}, references {references.shape}: they must have one shape")
    differences = np.abs(np.diff(images - references, axis=0))
    either = [None] * len(differences) if masks is None else masks[1:] | masks[:-1]
    return np.array([masked_mean(*pair) for pair in zip(differences, either, strict=True)])
