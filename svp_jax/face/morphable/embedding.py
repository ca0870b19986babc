"""Points on a mesh: places within triangles, which move with the vertices."""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np


@partial(jax.tree_util.register_dataclass, data_fields=["corners", "weights"], meta_fields=[])
@dataclass(frozen=True)
class Embedding:
    """L points on a mesh.

    Attributes:
        corners: int32 [L, 3], the vertices of the triangle in which each lies.
        weights: float32 [L, 3], its barycentric coordinates.
    """

    corners: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.corners)

    def points(self, vertices: jax.Array) -> jax.Array:
        """Where they are, [..., L, 3], on vertices [..., V, 3]."""
        return (vertices[..., self.corners, :] * self.weights[..., None]).sum(-2)

    def common(self, labels: np.ndarray) -> np.ndarray:
        """The label [L] that the corners of each point share; `labels` is [V]. ValueError where they differ."""
        found = np.asarray(labels)[self.corners]
        heaviest = np.take_along_axis(found, self.weights.argmax(axis=1)[:, None], axis=1)
        # A corner of weight 0 has no say.
        if ((found != heaviest) & (self.weights > 0)).any():
            raise ValueError("points lie between parts")
        return heaviest[:, 0]

    def taken(self, which) -> "Embedding":
        """The points `which` (anything that indexes an array)."""
        return Embedding(self.corners[which], self.weights[which])


def at_vertices(indices) -> Embedding:
    """An embedding of points that are vertices."""
    indices = np.asarray(indices, np.int32)
    weights = np.zeros((len(indices), 3), np.float32)
    weights[:, 0] = 1
    return Embedding(np.repeat(indices[:, None], 3, axis=1), weights)


def joined(*parts: Embedding) -> Embedding:
    """The points of all, one after the other."""
    return Embedding(np.concatenate([part.corners for part in parts]), np.concatenate([p.weights for p in parts]))
