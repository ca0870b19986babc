"""Rotations: axis-angle vectors, matrices, and the angles that people think in."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# GPUs round the factors of products to 10 bits otherwise, which moves vertices by a tenth of a millimetre.
einsum = partial(jnp.einsum, precision="highest")
matmul = partial(jnp.matmul, precision="highest")
tensordot = partial(jnp.tensordot, axes=1, precision="highest")


def matrix(vector: jax.Array) -> jax.Array:
    """Rotation matrices [..., 3, 3] of axis-angle vectors [..., 3] in radians (Rodrigues); smooth at 0."""
    squared = (vector**2).sum(-1)[..., None, None]
    # Below this the series are exact in float32, and the plain formulas and their gradients are 0 / 0.
    small = squared < 1e-4
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    sine = jnp.where(small, 1 - squared / 6 + squared**2 / 120, jnp.sin(angle) / angle)
    cosine = jnp.where(small, 0.5 - squared / 24 + squared**2 / 720, (1 - jnp.cos(angle)) / angle**2)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    skew = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape, 3)
    return jnp.eye(3, dtype=vector.dtype) + sine * skew + cosine * matmul(skew, skew)


def rotate(matrices: jax.Array, points: jax.Array) -> jax.Array:
    """Points [..., 3] turned by matrices [..., 3, 3]."""
    # The sum written out: XLA's batched products of small matrices are many times slower on a CPU.
    return (matrices * points[..., None, :]).sum(-1)


def vector(matrices: np.ndarray) -> np.ndarray:
    """Axis-angle vectors float64 [..., 3], at most pi long, of rotation matrices [..., 3, 3]."""
    m = np.asarray(matrices, np.float64)
    # By the quaternion, whose largest part is never near 0 (Shepperd 1978).
    trace = np.trace(m, axis1=-2, axis2=-1)
    diagonal = np.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], -1)
    squares = np.concatenate([(1 + trace)[..., None], 1 + 2 * diagonal - trace[..., None]], -1)
    across = np.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    rows = np.stack(
        [
            np.concatenate([squares[..., :1], across], -1),
            np.stack([across[..., 0], squares[..., 1], xy, xz], -1),
            np.stack([across[..., 1], xy, squares[..., 2], yz], -1),
            np.stack([across[..., 2], xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    largest = squares.argmax(-1)
    quaternion = np.take_along_axis(rows, largest[..., None, None], -2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * np.divide(angle, sine, out=np.full_like(angle, 2.0), where=sine > 1e-12)


def from_angles(yaw, pitch, roll) -> np.ndarray:
    """Matrices [..., 3, 3] of degrees: yaw to the picture's right, pitch upwards, roll counter-clockwise.

    The inverse of `tracking.pose_angles`: yaw about y, after pitch about x, after roll about z.
    """
    yaw, pitch, roll = (np.radians(np.asarray(angle, np.float64)) for angle in (yaw, pitch, roll))
    one, zero = np.ones_like(yaw), np.zeros_like(yaw)

    def stacked(*entries) -> np.ndarray:
        return np.stack(np.broadcast_arrays(*entries), -1).reshape(*np.shape(yaw), 3, 3)

    about_y = stacked(np.cos(yaw), zero, np.sin(yaw), zero, one, zero, -np.sin(yaw), zero, np.cos(yaw))
    about_x = stacked(one, zero, zero, zero, np.cos(pitch), np.sin(pitch), zero, -np.sin(pitch), np.cos(pitch))
    about_z = stacked(np.cos(roll), -np.sin(roll), zero, np.sin(roll), np.cos(roll), zero, zero, zero, one)
    return about_y @ about_x @ about_z
