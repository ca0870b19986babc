"""The sixteen labels of a face parsing map and the colours that stand for them in images."""

from collections.abc import Sequence

import numpy as np

# Right and left are the subject's. "skin" is all skin that is not the face: neck, ears, shoulders.
LABELS = (
    "background", "clothes", "hair", "skin", "face", "nose", "right_brow", "left_brow",
    "right_eye", "left_eye", "iris", "upper_lip", "lower_lip", "inner_mouth", "glasses", "beard",
)  # fmt: skip
LABEL_INDEX = {name: index for index, name in enumerate(LABELS)}

# Far from each other in RGB (at least 79 apart), so that a label survives a VAE's round trip and a resize.
PALETTE = np.array(
    [
        (0, 0, 0), (0, 80, 200), (130, 60, 0), (255, 170, 110), (255, 225, 180), (255, 120, 200), (0, 150, 0),
        (0, 230, 90), (255, 255, 255), (150, 240, 255), (0, 40, 90), (255, 0, 80), (170, 0, 60), (70, 0, 110),
        (120, 120, 120), (180, 160, 0),
    ],
    dtype=np.uint8,
)  # fmt: skip

FACE_LABELS = (
    "face", "nose", "right_brow", "left_brow", "right_eye", "left_eye", "iris",
    "upper_lip", "lower_lip", "inner_mouth", "glasses", "beard",
)  # fmt: skip

# Small, and what one looks at first.
FEATURE_LABELS = (
    "right_brow", "left_brow", "right_eye", "left_eye", "iris", "upper_lip", "lower_lip", "inner_mouth",
)  # fmt: skip


def colorize(labels: np.ndarray) -> np.ndarray:
    """Palette colours uint8 [..., 3] of integer labels [...] in 0..15."""
    return PALETTE[labels]


def decode(colors: np.ndarray, allowed: Sequence[str] = LABELS) -> np.ndarray:
    """Labels uint8 [...] of the nearest palette colours to uint8 `colors` [..., 3].

    Args:
        allowed: names of the labels to choose from. A blurred edge between two colours may come out near a third:
            whoever knows that a person has no glasses leaves them out.
    """
    numbers = np.array([LABEL_INDEX[name] for name in allowed], np.uint8)
    pixels = np.asarray(colors).reshape(-1, 3).astype(np.float32)
    palette = PALETTE[numbers].astype(np.float32)
    # |c - p|^2 without |c|^2, which is the same for all labels.
    distance = (palette**2).sum(axis=1) - 2 * pixels @ palette.T
    return numbers[distance.argmin(axis=1)].reshape(np.shape(colors)[:-1])


def swap_sides(colors: np.ndarray) -> np.ndarray:
    """Palette colours uint8 [..., 3] with right and left labels exchanged, as a mirrored face has them."""
    swapped = colors.copy()
    for name, index in LABEL_INDEX.items():
        side, _, part = name.partition("_")
        if side in ("right", "left"):
            other = LABEL_INDEX[f"{'left' if side == 'right' else 'right'}_{part}"]
            swapped[(colors == PALETTE[index]).all(axis=-1)] = PALETTE[other]
    return swapped


def face_mask(labels: np.ndarray) -> np.ndarray:
    """True where labels [...] belong to the face (`FACE_LABELS`)."""
    return np.isin(labels, [LABEL_INDEX[name] for name in FACE_LABELS])


def feature_mask(labels: np.ndarray) -> np.ndarray:
    """True where labels [...] are eyes, brows or mouth (`FEATURE_LABELS`)."""
    return np.isin(labels, [LABEL_INDEX[name] for name in FEATURE_LABELS])
