"""What a fit of a face model minimises: the squares of these terms, for each frame of a clip.

For frame n with parameters y_n (expression e, jaw j, gaze g, rotation r, translation t) and identity b; u is the
distance between the outer eye corners in the picture, and each term has a weight of ours:

    point   rho(|project(X_l(b, y_n)) - x_nl| / u)    for each landmark l, rho is the pseudo-Huber function
    lids    gap_l - tracked gap_l                     between opposite points of upper and lower lid, divided by u
    depth   rho(relative depth of X_l - z_nl / u)     the tracker's depth, which is rough
    score   e_c - s_nc                                the tracker's blendshape score of the same name
    prior   e, j, g, b                                towards the neutral, average face
    limit   what of e lies outside its range
    steady  rho(y_n - smoothed y_n)                   in a second pass, towards the first one, smoothed in time

The lids' term is DECA's eye closure loss (Feng et al. 2021, section 4.2).
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.embedding import Embedding
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters

# Inverse standard deviations of the terms above.
POINT = 200.0  # Of a landmark of full weight: half a percent of the eyes' distance.
LIDS = 40.0
DEPTH = 40.0
SCORE = 1.0
EXPRESSION = 0.2
JAW = 2.0
GAZE = 1.0
VERGENCE = 3.0  # Difference between the gazes of both eyes.
LIMIT = 5.0
IDENTITY = 0.4
STEADY = 5.0


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["expression", "jaw", "gaze", "rotation", "translation"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Frames:
    """The unknowns of frames: `FaceParameters` without identity and neck; gaze [..., 2, 2] is pitch and yaw."""

    expression: jax.Array
    jaw: jax.Array
    gaze: jax.Array
    rotation: jax.Array
    translation: jax.Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["model", "camera", "importance", "lids", "score_importance", "unit"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Problem:
    """What is the same in all frames.

    Attributes:
        model: of the landmarks alone, which are its vertices.
        importance: [L], factor on the weights of each landmark. lids: int [2, P], those on upper and on lower lids.
        score_importance: [E], 0 where there is no score.
        unit: [], distance between the outer eye corners in pixels.
    """

    model: FaceModel
    camera: Camera
    importance: jax.Array
    lids: jax.Array
    score_importance: jax.Array
    unit: jax.Array


@partial(jax.tree_util.register_dataclass, data_fields=["points", "scores", "steady"], meta_fields=[])
@dataclass(frozen=True)
class Targets:
    """What frames are fitted to: points [..., L, 3] in pixels, scores [..., E], smoothed Frames and their weight."""

    points: jax.Array
    scores: jax.Array
    steady: tuple[Frames, jax.Array]


def make_problem(
    model: FaceModel,
    embedding: Embedding,
    importance: np.ndarray,
    lids: np.ndarray,
    score_importance: np.ndarray,
    camera: Camera,
    unit: float,
) -> Problem:
    """The problem of L landmarks that lie at `embedding` on `model`; see `Problem`."""
    return Problem(
        model=model.restricted(embedding),
        camera=camera,
        importance=np.asarray(importance, np.float32),
        lids=np.asarray(lids, np.int32),
        score_importance=np.asarray(score_importance, np.float32),
        unit=np.float32(unit),
    )


def parameters_of(identity: jax.Array, frames: Frames) -> FaceParameters:
    """Unknowns [B, ...] as parameters."""
    still = jnp.zeros((*frames.gaze.shape[:-1], 1), frames.gaze.dtype)
    return FaceParameters(
        identity=identity,
        expression=frames.expression,
        jaw=frames.jaw,
        neck=jnp.zeros_like(frames.jaw),
        eyes=jnp.concatenate([frames.gaze, still], axis=-1),
        rotation=frames.rotation,
        translation=frames.translation,
    )


def residual(problem: Problem, identity: jax.Array, frame: Frames, targets: Targets) -> jax.Array:
    """All terms of one frame but the identity's prior, [R]; the module's text names them."""
    parameters = parameters_of(identity, jax.tree.map(lambda array: array[None], frame))
    points = problem.model.vertices(parameters)[0]
    screen = problem.camera.project(points)
    offset = (screen[:, :2] - targets.points[:, :2]) / problem.unit
    point = _robust(offset * (POINT * problem.importance)[:, None], 2.0)
    upper, lower = offset[problem.lids]
    middle = (screen[:, 2] * problem.importance).sum() / problem.importance.sum()
    away = (screen[:, 2] - middle) * problem.camera.focal / middle
    tracked = targets.points[:, 2] - (targets.points[:, 2] * problem.importance).sum() / problem.importance.sum()
    depth = _robust(((away - tracked) / problem.unit * DEPTH * problem.importance)[:, None], 1.0)
    low, high = problem.model.limits
    beyond = jax.nn.relu(low - frame.expression) + jax.nn.relu(frame.expression - high)
    smooth, steadiness = targets.steady
    scale = problem.unit / problem.camera.focal
    # In units in which 1 is a large change: weights, radians times 4, parts of the eyes' distance.
    change = jnp.concatenate(
        [
            frame.expression - smooth.expression,
            (frame.jaw - smooth.jaw) * 4,
            (frame.gaze - smooth.gaze).ravel() * 4,
            (frame.rotation - smooth.rotation) * 4,
            (frame.translation - smooth.translation) / (scale * middle) * jnp.array([2.0, 2.0, 0.5]),
        ]
    )
    return jnp.concatenate(
        [
            # Neighbouring landmarks err alike: a tenth of their information is their own.
            0.1 * point.ravel(),
            0.1 * depth.ravel(),
            # Lids move little: without a term of its own a blink is lost among the other landmarks.
            ((upper - lower) * LIDS).ravel(),
            (frame.expression - targets.scores) * problem.score_importance * SCORE,
            frame.expression * EXPRESSION,
            frame.jaw * JAW,
            frame.gaze.ravel() * GAZE,
            (frame.gaze[0] - frame.gaze[1]) * VERGENCE,
            beyond * LIMIT,
            _robust((change * STEADY * steadiness)[:, None], 0.5).ravel(),
        ]
    )


def _robust(vectors: jax.Array, delta: float) -> jax.Array:
    """Vectors [..., D] shortened so that their squares are the pseudo-Huber function of their lengths."""
    squared = (vectors**2).sum(-1, keepdims=True) / delta**2
    # rho / x^2 as a quotient that is exact at 0: 2 (sqrt(1 + x^2) - 1) / x^2 = 2 / (1 + sqrt(1 + x^2)).
    return vectors * jnp.sqrt(2 / (1 + jnp.sqrt(1 + squared)))
