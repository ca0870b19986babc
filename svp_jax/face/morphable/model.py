"""What every parametric face model offers, and what its triangles are parts of."""

from typing import Protocol

import jax
import numpy as np

from svp_jax.face.morphable.embedding import Embedding
from svp_jax.face.morphable.parameters import FaceParameters

# What a triangle belongs to. Skin is what the condition images show as a surface; "inside" are the sockets of mouth
# and eyes, which hide what is behind them and are black themselves.
PARTS = ("skin", "inside", "teeth", "right_eye", "left_eye")
PART_INDEX = {name: index for index, name in enumerate(PARTS)}


class FaceModel(Protocol):
    """A face model: a pytree whose arrays are its leaves, so that it can be an argument of jitted functions.

    Attributes:
        name: "ict", "flame" or "mediapipe".
        identity_size: number I of shape weights.
        channels: names of the E expression weights. limits: the lowest and highest that make sense.
        triangles: int32 [T, 3]; triangles that face the camera wind counter-clockwise on the screen.
        parts: uint8 [T], indices into `PARTS`.
        iris_cosine: float32 [V], of eyeballs the cosine of the angle between a vertex and the optical axis, else -1;
            what is above `iris_limit` is the iris. (Not of "mediapipe", whose irises are landmarks.)
        landmarks: the 68 Multi-PIE points (0 to 16 jaw, from the subject's right ear; 17 brows, 27 nose, 36 eyes,
            48 lips), then the centres of right and left iris.
    """

    name: str
    identity_size: int
    channels: tuple[str, ...]
    limits: tuple[float, float]
    triangles: np.ndarray
    parts: np.ndarray
    iris_cosine: np.ndarray
    iris_limit: float
    landmarks: Embedding

    def vertices(self, parameters: FaceParameters) -> jax.Array:
        """[B, V, 3] in the camera's space, in the model's unit of length; differentiable, no knowledge of files."""
        ...

    def restricted(self, points: Embedding) -> "FaceModel":
        """The model whose vertices are `points` on this one, without triangles and landmarks: cheap to fit.

        Raises:
            ValueError: a point lies between parts that turn on their own.
        """
        ...
