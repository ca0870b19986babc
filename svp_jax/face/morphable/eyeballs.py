"""Heads whose eyeballs turn: what the models without joints (ict, mediapipe) share."""

import jax
import jax.numpy as jnp

from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.parameters import FaceParameters


def posed(shaped: jax.Array, turned_by: jax.Array, centres: jax.Array, parameters: FaceParameters) -> jax.Array:
    """Heads at rest moved into the camera's space, [B, V, 3].

    Args:
        shaped: [B, V, 3], of the head that looks straight ahead.
        turned_by: int [V], 0 for vertices of the right eyeball, 1 of the left one, 2 for all others.
        centres: [2, 3], what the eyeballs turn about, right and left.
    """
    # Right eye, left eye, head: each turns about its centre, and all with the head.
    still = jnp.zeros((len(parameters), 1, 3))
    pivots = jnp.concatenate([centres, jnp.zeros((1, 3))])
    head = rotation.matrix(parameters.rotation)[:, None]
    turns = rotation.matmul(head, rotation.matrix(jnp.concatenate([parameters.eyes, still], axis=1)))
    moves = rotation.matmul(head - turns, pivots[..., None])[..., 0] + parameters.translation[:, None]
    return rotation.rotate(turns[:, turned_by], shaped) + moves[:, turned_by]
