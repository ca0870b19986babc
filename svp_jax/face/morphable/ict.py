"""ICT-FaceKit (Li et al., CVPR 2020; MIT): a whole head with eyeballs, teeth and tongue, and named expressions.

    vertices = neutral + sum_i identity_i I_i + sum_e expression_e E_e

Units are centimetres. Its expressions move lids and sockets but turn no eyeball, so eyeballs turn about their own
centres here. Jaw and neck are not parameters of this model: `jawOpen` and its like are expressions.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.embedding import Embedding, at_vertices
from svp_jax.face.morphable.ict_repository import read_repository
from svp_jax.face.morphable.model import PART_INDEX
from svp_jax.face.morphable.parameters import FaceParameters

FILE = "ict_face_model.npz"
# Part of the file -> part of our models. Left and right are the subject's in both.
_PARTS = {
    "face": "skin",
    "head_and_neck": "skin",
    "mouth_socket": "inside",
    "eye_socket_left": "inside",
    "eye_socket_right": "inside",
    # No tracker sees a tongue: at rest it would fill every open mouth.
    "gums_and_tongue": "inside",
    "teeth": "teeth",
    "eyeball_left": "left_eye",
    "eyeball_right": "right_eye",
}
_SHAPES = {
    "neutral": (None, 3),
    "identity": (None, None, 3),
    "expression": (None, None, 3),
    "expression_names": (None,),
    "faces": (None, 3),
    "face_part": (None,),
    "part_names": (None,),
    "part_vertex_ranges": (None, 2),
    "subpart_names": (None,),
    "subpart_vertex_ranges": (None, 2),
    "landmarks68": (68,),
}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "neutral", "identity_basis", "expression_basis", "turned_by", "eye_centre", "eye_centre_basis",
        "triangles", "parts", "landmarks", "iris_cosine",
    ],
    meta_fields=["channels", "limits", "iris_limit", "name"],
)  # fmt: skip
@dataclass(frozen=True)
class ICT:
    """See `FaceModel`.

    Attributes:
        neutral: float32 [V, 3]. identity_basis: float32 [I, V, 3]. expression_basis: float32 [E, V, 3].
        turned_by: int8 [V], 0 right eyeball, 1 left eyeball, 2 the head alone.
        eye_centre: float32 [2, 3]. eye_centre_basis: float32 [I, 2, 3].
        iris_cosine: float32 [V], of eyeballs the cosine of the angle between a vertex and the optical axis; else -1.
    """

    neutral: jax.Array
    identity_basis: jax.Array
    expression_basis: jax.Array
    turned_by: jax.Array
    eye_centre: jax.Array
    eye_centre_basis: jax.Array
    triangles: np.ndarray
    parts: np.ndarray
    landmarks: Embedding
    iris_cosine: np.ndarray
    channels: tuple[str, ...]
    limits: tuple[float, float] = (0.0, 1.0)
    # An iris is 1.17 cm wide (MediaPipe's own assumption), the eyeballs of this model have a radius of 1.6 cm.
    iris_limit: float = 0.93
    name: str = "ict"

    @property
    def identity_size(self) -> int:
        return len(self.identity_basis)

    def vertices(self, parameters: FaceParameters) -> jax.Array:
        """[B, V, 3] in centimetres in the camera's space; `jaw` and `neck` have no effect."""
        person = self.neutral + jnp.tensordot(parameters.identity, self.identity_basis, 1)
        shaped = person + jnp.tensordot(parameters.expression, self.expression_basis, 1)
        centres = self.eye_centre + jnp.tensordot(parameters.identity, self.eye_centre_basis, 1)
        # Right eye, left eye, head: each turns about its centre, and all with the head.
        still = jnp.zeros((len(parameters), 1, 3))
        pivots = jnp.concatenate([centres, jnp.zeros((1, 3))])
        head = rotation.matrix(parameters.rotation)[:, None]
        turns = head @ rotation.matrix(jnp.concatenate([parameters.eyes, still], axis=1))
        moves = (head @ pivots[..., None] - turns @ pivots[..., None])[..., 0] + parameters.translation[:, None]
        return rotation.rotate(turns[:, self.turned_by], shaped) + moves[:, self.turned_by]

    def restricted(self, points: Embedding) -> "ICT":
        """`points` alone; see `FaceModel`."""
        return replace(
            self,
            neutral=points.points(self.neutral),
            identity_basis=points.points(self.identity_basis),
            expression_basis=points.points(self.expression_basis),
            turned_by=points.common(self.turned_by),
            triangles=np.zeros((0, 3), np.int32),
            parts=np.zeros(0, np.uint8),
            landmarks=at_vertices(np.zeros(0, np.int32)),
            iris_cosine=np.zeros(0, np.float32),
        )


def load_ict(path: Path) -> ICT:
    """Reads the model from a repacked file, or from a checkout of the ICT-FaceKit repository.

    Args:
        path: `ict_face_model.npz`, or the repository's folder (the one with `FaceXModel/`).

    Raises:
        UserError: it is neither, or lacks an array.
    """
    path = Path(path)
    return _model(read_repository(path) if path.is_dir() else _read_npz(path))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _SHAPES if name in file}
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it is no npz file"
        raise UserError(f"{path}: cannot be read as an ICT face model ({reason}); give {FILE}") from None
    for name, shape in _SHAPES.items():
        if name not in arrays:
            raise UserError(f"{path}: has no array {name!r}, so it is no ICT face model; give {FILE}")
        found = arrays[name].shape
        if len(found) != len(shape) or any(want not in (None, got) for want, got in zip(shape, found, strict=True)):
            wanted = ["any" if size is None else size for size in shape]
            raise UserError(f"{path}: {name} has the shape {list(found)}, expected {wanted}; get {FILE} again")
    return arrays


def _model(arrays: dict[str, np.ndarray]) -> ICT:
    neutral = arrays["neutral"].astype(np.float32)
    ranges = {str(n): r for n, r in zip(arrays["subpart_names"], arrays["subpart_vertex_ranges"], strict=True)}
    parts = {str(n): r for n, r in zip(arrays["part_names"], arrays["part_vertex_ranges"], strict=True)}
    turned_by = np.full(len(neutral), 2, np.int8)
    cosine = np.full(len(neutral), -1, np.float32)
    centres, irises = [], []
    for side, name in enumerate(("right", "left")):
        start, stop = parts[f"eyeball_{name}"]
        turned_by[start:stop] = side
        ball = slice(*ranges[f"sclera_{name}"])
        centre = _sphere_centre(neutral[ball])
        centres.append(centre)
        away = neutral[start:stop] - centre
        cosine[start:stop] = away[:, 2] / np.maximum(np.linalg.norm(away, axis=1), 1e-6)
        irises.append(ball.start + int(cosine[ball].argmax()))
    identity = arrays["identity"].astype(np.float32)
    # Identities scale and move eyeballs: the centre moves as their vertices do on average.
    moved = [identity[:, slice(*ranges[f"sclera_{name}"])].mean(axis=1) for name in ("right", "left")]
    labels = np.array([PART_INDEX[_PARTS[str(name)]] for name in arrays["part_names"]], np.uint8)
    triangles, drawn = _without_corneas(arrays["faces"], labels[arrays["face_part"]], ranges)
    return ICT(
        neutral=neutral,
        identity_basis=identity,
        expression_basis=arrays["expression"].astype(np.float32),
        turned_by=turned_by,
        eye_centre=np.stack(centres).astype(np.float32),
        eye_centre_basis=np.stack(moved, axis=1).astype(np.float32),
        triangles=triangles,
        parts=drawn,
        landmarks=at_vertices(np.concatenate([arrays["landmarks68"], irises])),
        iris_cosine=cosine,
        channels=tuple(_channel(str(name)) for name in arrays["expression_names"]),
    )


def _channel(name: str) -> str:
    """ARKit's name: "eyeBlink_L" becomes "eyeBlinkLeft"."""
    for short, long in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(short):
            return name.removesuffix(short) + long
    return name


def _sphere_centre(points: np.ndarray) -> np.ndarray:
    """The centre [3] of the sphere nearest to points [n, 3], in the sense of least squares of |p|^2."""
    system = np.concatenate([2 * points.astype(np.float64), np.ones((len(points), 1))], axis=1)
    return np.linalg.lstsq(system, (points.astype(np.float64) ** 2).sum(1), rcond=None)[0][:3]


def _without_corneas(
    triangles: np.ndarray, parts: np.ndarray, ranges: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles and parts without the iris discs behind the closed, transparent corneas: one surface per eye."""
    hidden = np.zeros(triangles.max() + 1, bool)
    for name in ("iris_left", "iris_right"):
        hidden[slice(*ranges[name])] = True
    kept = ~hidden[triangles].any(axis=1)
    return triangles[kept].astype(np.int32), parts[kept]
