"""The 68 Multi-PIE points and both irises, as MediaPipe's landmarks: how face models and trackers name places."""

import numpy as np

# In the order of Multi-PIE: jaw from the subject's right ear, brows, nose, eyes, outer and inner lips.
FROM_MEDIAPIPE = (
    127, 234, 93, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91,
    78, 81, 13, 311, 308, 402, 14, 178,
    468, 473,
)  # fmt: skip
COUNT = len(FROM_MEDIAPIPE)
JAW, BROWS, NOSE, EYES, LIPS = (slice(0, 17), slice(17, 27), slice(27, 36), slice(36, 48), slice(48, 68))
# All but jaw and irises: what faces are compared by.
INNER = slice(17, 68)
IRISES = slice(68, 70)
CHIN = 8
# Opposite points of upper and lower lid, right eye and left eye.
LIDS = np.array([(37, 38, 43, 44), (41, 40, 47, 46)])
_OUTER_CORNERS = (36, 45)


def points_of(landmarks: np.ndarray) -> np.ndarray:
    """The points [..., 70, D] of landmarks [..., L, D]: MediaPipe's 478, or these 70 themselves.

    Raises:
        ValueError: landmarks of another kind.
    """
    if landmarks.shape[-2] == COUNT:
        return landmarks
    if landmarks.shape[-2] == 478:
        return landmarks[..., FROM_MEDIAPIPE, :]
    raise ValueError(f"landmarks: got {landmarks.shape[-2]} points, allowed are 478 (MediaPipe) or {COUNT} (Multi-PIE)")


def eye_corners(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outer corners of right and left eye [..., D] of points [..., 70, D]."""
    right, left = _OUTER_CORNERS
    return points[..., right, :], points[..., left, :]


def eye_distance(points: np.ndarray) -> np.ndarray:
    """Distance [...] in the picture between the outer corners of the eyes of points [..., 70, 2 or 3]."""
    right, left = eye_corners(points[..., :2])
    return np.linalg.norm(right - left, axis=-1)
