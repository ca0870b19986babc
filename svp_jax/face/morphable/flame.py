"""FLAME 2020 and 2023: an identity and an expression space of principal components, and four joints that turn.

Li, Bolkart, Black, Li, Romero: Learning a model of facial shape and expression from 4D scans, 2017; the formulas are
those of SMPL (Loper et al. 2015), tested against smplx. Lengths are metres.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.morphable.embedding import Embedding, at_vertices, joined
from svp_jax.face.morphable.flame_files import FlameArrays, read_flame
from svp_jax.face.morphable.flame_landmarks import DECA, DYNAMIC, STATIC, FlameLandmarks, contour_points, read_landmarks
from svp_jax.face.morphable.model import PART_INDEX
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.morphable.rotation import einsum, matrix

# The last 2 x 546 vertices are the eyeballs, the subject's left one first (x is to the picture's right).
EYES = {"left_eye": slice(3931, 4477), "right_eye": slice(4477, 5023)}
_LEFT_EYE_JOINT, _RIGHT_EYE_JOINT = 3, 4
# How many shape and expression weights FLAME's files have.
ALL = (300, 100)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "template",
        "identity",
        "expression",
        "pose",
        "joints",
        "joint_identity",
        "joint_expression",
        "skinning",
        "iris_cosine",
        "triangles",
        "parts",
        "embedding",
        "points",
    ],
    meta_fields=["folder"],
)
@dataclass(frozen=True)
class Flame:
    """FLAME, a `model.FaceModel`; or points on it alone.

    Attributes:
        template: float32 [V, 3], the average face at rest.
        identity, expression: float32 [V, 3, n], displacements for a weight of 1.
        pose: float32 [V, 3, 36], displacements by the joints' rotations.
        joints: float32 [5, 3], where the average face's joints are: root, neck, jaw, left eye, right eye.
        joint_identity, joint_expression: float32 [5, 3, n], how they move with the weights.
        skinning: float32 [V, 5], how much each joint moves each vertex.
        iris_cosine: float32 [V], for vertices of an eyeball the cosine of the angle at its centre, in the average face,
            between them and the eye's axis (z); -1 elsewhere.
        triangles, parts: see `model.FaceModel`; None in a model of points.
        embedding: where the landmarks and irises lie, None where no file says it.
        folder: where the file was looked for, as messages name it.
        points: in a model of points, where they lie on its V vertices.
    """

    template: jax.Array
    identity: jax.Array
    expression: jax.Array
    pose: jax.Array
    joints: jax.Array
    joint_identity: jax.Array
    joint_expression: jax.Array
    skinning: jax.Array
    iris_cosine: np.ndarray
    triangles: np.ndarray | None
    parts: np.ndarray | None
    embedding: FlameLandmarks | None
    folder: str
    points: Embedding | None = None

    name = "flame"
    limits = (-3.0, 3.0)  # Ours, in standard deviations.
    # An iris is 1.17 cm wide, the eyeballs of this model have a radius of 1.2 cm.
    iris_limit = 0.87

    @property
    def identity_size(self) -> int:
        """Number of shape weights, in standard deviations."""
        return self.identity.shape[-1]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the expression weights, which are principal components: they have no meaning of their own."""
        return tuple(f"expression_{index}" for index in range(self.expression.shape[-1]))

    @property
    def landmarks(self) -> Embedding:
        """The 68 landmarks, of which the jawline's are those of a frontal view, and the irises (right, left).

        Raises:
            UserError: no embedding was found.
        """
        return self._embedding().frontal

    def contour(self, parameters: FaceParameters) -> jax.Array:
        """The jawline's 17 landmarks as they are seen at each frame's yaw, [B, 17, 3]; see `flame_landmarks`.

        Raises:
            UserError: no embedding with contours was found.
        """
        contours = self._embedding().contours
        if contours is None:
            raise UserError(f"the landmark embedding in {self.folder} has no contours by yaw; give {DECA[0]}")
        heads = einsum("bij,bjk->bik", matrix(parameters.rotation), matrix(parameters.neck))
        return contour_points(contours, self.vertices(parameters), heads)

    def rest_joints(self, parameters: FaceParameters) -> jax.Array:
        """Where the joints are before they turn, [B, 5, 3]; the first is what `rotation` turns the head about."""
        joints = self.joints + einsum("jki,i->jk", self.joint_identity, parameters.identity)
        return joints + einsum("jke,be->bjk", self.joint_expression, parameters.expression)

    def vertices(self, parameters: FaceParameters) -> jax.Array:
        """[B, V, 3] in the camera's space (or the points); the numbers of weights must be the model's."""
        angles = jnp.stack(
            [parameters.rotation, parameters.neck, parameters.jaw, parameters.eyes[:, 1], parameters.eyes[:, 0]], axis=1
        )
        turned = matrix(angles)  # [B, 5, 3, 3]
        shape = self.template + einsum("vki,i->vk", self.identity, parameters.identity)
        shape = shape + einsum("vke,be->bvk", self.expression, parameters.expression)
        feature = (turned[:, 1:] - jnp.eye(3, dtype=turned.dtype)).reshape(len(angles), -1)
        posed = shape + einsum("vkp,bp->bvk", self.pose, feature)
        turns, shifts = _chained(turned, self.rest_joints(parameters))
        # Each vertex moves by the mean of the joints' motions.
        turn, shift = einsum("vj,bjik->bvik", self.skinning, turns), einsum("vj,bjk->bvk", self.skinning, shifts)
        moved = einsum("bvik,bvk->bvi", turn, posed) + shift + parameters.translation[:, None]
        return moved if self.points is None else self.points.points(moved)

    def restricted(self, points: Embedding) -> "Flame":
        """`points` alone; see `model.FaceModel`. Joints move each corner differently, so corners are kept."""
        used, corners = np.unique(points.corners, return_inverse=True)
        own = ("template", "identity", "expression", "pose", "skinning", "iris_cosine")
        rows = {name: getattr(self, name)[used] for name in own}
        kept = Embedding(corners.reshape(-1, 3).astype(np.int32), points.weights)
        return replace(self, **rows, triangles=None, parts=None, embedding=None, points=kept)

    def sized(self, parameters: FaceParameters) -> "Flame":
        """The model with the first of its weights alone, as many as `parameters` have."""
        identity, expression = len(parameters.identity), parameters.expression.shape[1]
        return replace(
            self,
            identity=self.identity[..., :identity],
            expression=self.expression[..., :expression],
            joint_identity=self.joint_identity[..., :identity],
            joint_expression=self.joint_expression[..., :expression],
        )

    def _embedding(self) -> FlameLandmarks:
        if self.embedding is None:
            raise UserError(
                f"FLAME's landmarks are not in {self.folder}; put {DECA[0]} (DECA's), or {STATIC} and {DYNAMIC} "
                "(smplx's), there"
            )
        return self.embedding


def _chained(turned: jax.Array, joints: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The joints' motions of points, turn @ point + shift: ([B, 5, 3, 3], [B, 5, 3]).

    Args:
        turned: [B, 5, 3, 3], each joint's rotation, with its parent's axes.
        joints: [B, 5, 3], where they are at rest.
    """
    root = turned[:, 0]
    neck = einsum("bij,bjk->bik", root, turned[:, 1])
    outer = einsum("bij,bnjk->bnik", neck, turned[:, 2:])
    turns = jnp.concatenate([root[:, None], neck[:, None], outer], axis=1)
    at_root = joints[:, 0]
    at_neck = at_root + einsum("bij,bj->bi", root, joints[:, 1] - joints[:, 0])
    # Jaw and eyes hang on the neck.
    at_outer = at_neck[:, None] + einsum("bij,bnj->bni", neck, joints[:, 2:] - joints[:, 1:2])
    moved = jnp.concatenate([at_root[:, None], at_neck[:, None], at_outer], axis=1)
    return turns, moved - einsum("bnij,bnj->bni", turns, joints)


def load_flame(path: Path, landmarks: Path | None = None, identity_size: int = 100, expression_size: int = 50) -> Flame:
    """FLAME from a file that was downloaded.

    Args:
        path: generic_model.pkl, flame2023.pkl, flame2023_no_jaw.pkl or an .npz of the same arrays.
        landmarks: file or folder of the landmark embedding; None looks beside the model.
        identity_size, expression_size: how many weights to use, at most; files have 300 and 100.

    Raises:
        UserError: a file is missing, damaged, another model, or would run code; sizes below 1. Without an embedding
            the model loads, and only asking for its landmarks is an error.
    """
    for flag, size in (("identity_size", identity_size), ("expression_size", expression_size)):
        if size < 1:
            raise UserError(f"{flag} {size}: allowed are 1 or more")
    arrays = read_flame(path)
    embedding = read_landmarks(landmarks or path.parent, arrays.triangles)
    return _model(arrays, embedding, str(landmarks or path.parent), identity_size, expression_size)


def _model(
    arrays: FlameArrays, embedding: FlameLandmarks | None, folder: str, identity_size: int, expression_size: int
) -> Flame:
    identity, expression = arrays.identity[..., :identity_size], arrays.expression[..., :expression_size]
    # What the joints do with the weights is worked out here, so that a few vertices suffice later.
    joints, joint_identity, joint_expression = (
        np.einsum("jv,v...->j...", arrays.regressor, part) for part in (arrays.template, identity, expression)
    )
    single = {
        "template": arrays.template,
        "identity": identity,
        "expression": expression,
        "pose": arrays.pose,
        "joints": joints,
        "joint_identity": joint_identity,
        "joint_expression": joint_expression,
        "skinning": arrays.skinning,
        "iris_cosine": _iris_cosine(arrays.template, joints),
    }
    single = {name: array.astype(np.float32) for name, array in single.items()}
    parts = np.full(len(arrays.triangles), PART_INDEX["skin"], np.uint8)
    for eye, vertices in EYES.items():
        inside = (arrays.triangles >= vertices.start) & (arrays.triangles < vertices.stop)
        parts[inside.all(1)] = PART_INDEX[eye]
    if embedding is not None:
        irises = [EYES[eye].start + int(single["iris_cosine"][EYES[eye]].argmax()) for eye in ("right_eye", "left_eye")]
        embedding = replace(embedding, frontal=joined(embedding.frontal, at_vertices(irises)))
    return Flame(**single, triangles=arrays.triangles, parts=parts, embedding=embedding, folder=folder)


def _iris_cosine(template: np.ndarray, joints: np.ndarray) -> np.ndarray:
    cosines = np.full(len(template), -1.0)
    for eye, joint in (("left_eye", _LEFT_EYE_JOINT), ("right_eye", _RIGHT_EYE_JOINT)):
        rays = template[EYES[eye]] - joints[joint]
        cosines[EYES[eye]] = rays[:, 2] / np.maximum(np.linalg.norm(rays, axis=1), 1e-12)
    return cosines
