"""ICT-FaceKit (Li et al., CVPR 2020; MIT): a whole head with eyeballs, teeth and tongue, and named expressions.

    vertices = neutral + sum_i identity_i I_i + sum_e expression_e E_e

Units are centimetres. Its expressions move lids and sockets but turn no eyeball, so eyeballs turn about their own
centres here; identities, which turn them too in the source, only move and scale them, and with a gaze of 0 everybody
looks straight ahead. Jaw and neck are not parameters of this model: `jawOpen` and its like are expressions.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.embedding import Embedding, at_vertices
from svp_jax.face.morphable.eyeballs import posed
from svp_jax.face.morphable.ict_file import PARTS, read_npz
from svp_jax.face.morphable.ict_repository import read_repository
from svp_jax.face.morphable.model import PART_INDEX
from svp_jax.face.morphable.parameters import FaceParameters


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
        person = self.neutral + rotation.tensordot(parameters.identity, self.identity_basis)
        shaped = person + rotation.tensordot(parameters.expression, self.expression_basis)
        centres = self.eye_centre + rotation.tensordot(parameters.identity, self.eye_centre_basis)
        return posed(shaped, self.turned_by, centres, parameters)

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
        UserError: it is neither, or damaged.
    """
    path = Path(path)
    return _model(read_repository(path) if path.is_dir() else read_npz(path))


def _model(arrays: dict[str, np.ndarray]) -> ICT:
    neutral, identity, expression = (arrays[name].astype(np.float32) for name in ("neutral", "identity", "expression"))
    ranges = {
        str(name): slice(*ends)
        for kind in ("part", "subpart")
        for name, ends in zip(arrays[f"{kind}_names"], arrays[f"{kind}_vertex_ranges"], strict=True)
    }
    turned_by = np.full(len(neutral), 2, np.int8)
    cosine = np.full(len(neutral), -1, np.float32)
    centres, moves, irises = [], [], []
    for side, name in enumerate(("right", "left")):
        ball, sclera = ranges[f"eyeball_{name}"], ranges[f"sclera_{name}"]
        centre = _sphere_centre(neutral[sclera])
        moved, scale = _moved_and_scaled(identity[:, ball], neutral[ball] - centre)
        straight = _turn_ahead(neutral[sclera])
        away = (neutral[ball] - centre) @ straight.T
        neutral[ball] = centre + away
        identity[:, ball] = moved[:, None] + scale[:, None, None] * away
        expression[:, ball] = expression[:, ball] @ straight.T
        turned_by[ball] = side
        cosine[ball] = away[:, 2] / np.maximum(np.linalg.norm(away, axis=1), 1e-6)
        centres.append(centre)
        moves.append(moved)
        irises.append(sclera.start + int(cosine[sclera].argmax()))
    labels = np.array([PART_INDEX[PARTS[str(name)]] for name in arrays["part_names"]], np.uint8)
    triangles, drawn = _without_iris_discs(arrays["faces"], labels[arrays["face_part"]], ranges)
    return ICT(
        neutral=neutral,
        identity_basis=identity,
        expression_basis=expression,
        turned_by=turned_by,
        eye_centre=np.stack(centres).astype(np.float32),
        eye_centre_basis=np.stack(moves, axis=1).astype(np.float32),
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


def _moved_and_scaled(offsets: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What offsets [I, n, 3] of an eyeball's vertices are without their turn: moves [I, 3] and scales [I].

    Every scanned person looked somewhere, up to 6 degrees aside for one weight of 3. A gaze of 0 would then be
    straight ahead for the average person alone. The turn is fitted along with them (an offset is move + scale * away +
    turn x away, by least squares), lest it be taken for a move.

    Args:
        away: [n, 3], from the eyeball's centre to its vertices.
    """
    move = np.tile(np.eye(3), (len(away), 1))
    turn = np.cross(np.eye(3)[:, None], away).reshape(3, -1).T
    system = np.concatenate([move, away.reshape(-1, 1), turn], axis=1)
    found = np.linalg.lstsq(system, offsets.reshape(len(offsets), -1).T.astype(np.float64), rcond=None)[0]
    return found[:3].T, found[3]


def _turn_ahead(points: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] after which an eyeball's points [n, 3] look along z; the source's look 5 degrees outwards.

    An eyeball is round about its optical axis, along which its cornea makes it longest.
    """
    _, vectors = np.linalg.eigh(np.cov(points.astype(np.float64).T))
    x, y, z = vectors[:, -1] * np.sign(vectors[2, -1])
    return rotation.from_angles(np.degrees(np.arctan2(x, z)), np.degrees(np.arcsin(y)), 0).T


def _without_iris_discs(
    triangles: np.ndarray, parts: np.ndarray, ranges: dict[str, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles and parts without the iris discs behind the closed, transparent corneas: one surface per eye."""
    hidden = np.zeros(triangles.max() + 1, bool)
    for name in ("iris_left", "iris_right"):
        hidden[ranges[name]] = True
    kept = ~hidden[triangles].any(axis=1)
    return triangles[kept].astype(np.int32), parts[kept]
