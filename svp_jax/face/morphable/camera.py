"""The perspective camera before which the face models stand."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.tree_util.register_dataclass, data_fields=["focal", "centre"], meta_fields=[])
@dataclass(frozen=True)
class Camera:
    """A pinhole in the origin that looks along -z (x right, y up); see `FaceParameters`.

    Attributes:
        focal: [], focal length in pixels.
        centre: [2], where the optical axis meets the picture, in pixels from its left and upper edge.
    """

    focal: jax.Array
    centre: jax.Array

    def project(self, points: jax.Array) -> jax.Array:
        """Points [..., 3] as (x, y in pixels, right and down; depth in the points' unit, small is near) [..., 3].

        Points with a depth of 0 or less lie behind the camera and have no place in the picture.
        """
        depth = -points[..., 2:]
        flipped = points[..., :2] * jnp.array([1.0, -1.0], points.dtype)
        return jnp.concatenate([self.centre + self.focal * flipped / depth, depth], axis=-1)

    def scaled(self, factor: float) -> "Camera":
        """The camera of the same picture, `factor` times as large."""
        return Camera(self.focal * factor, self.centre * factor)
