"""Fits a face model to tracked landmarks: one identity for a clip, expression, jaw, gaze and head pose per frame.

For frame n with parameters y_n (expression e, jaw j, gaze g, rotation r, translation t) and identity b, the squares of
these are summed; u is the distance between the outer eye corners in the picture, all weights are ours (`Weights`):

    point   rho(|project(X_l(b, y_n)) - x_nl| / u)    for each landmark l, rho is the pseudo-Huber function
    lids    gap_l - tracked gap_l                     upper lid to lower lid, divided by u
    depth   rho(relative depth of X_l - z_nl / u)     the tracker's depth, which is rough
    score   e_c - s_nc                                the tracker's blendshape score of the same name
    prior   e, j, g, b                                towards the neutral, average face
    limit   what of e lies outside its range
    steady  rho(y_n - smoothed y_n)                   in a second pass, towards the first one, smoothed in time

Frames are solved by optimistix's Levenberg-Marquardt, one by one in a compiled loop: their Jacobians are small and
dense, and batched products of small matrices are slow on a CPU.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optimistix

from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.embedding import Embedding
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.smoothing import gaussian_over_time

CHUNK = 16  # Frames in one call of the compiled loop.
KEY_FRAMES = 16  # The identity is fitted to these, spread over the clip's poses and expressions.
ROUNDS = 3  # Alternations between identity and frames.
_STEPS = 16  # Of the solver, at most, for a frame; half as many for the identity.


@dataclass(frozen=True)
class Weights:
    """Inverse standard deviations of the terms above."""

    point: float = 100.0  # Of a landmark of full weight: 1 % of the eyes' distance.
    lids: float = 40.0
    depth: float = 40.0
    score: float = 1.0
    expression: float = 0.2
    jaw: float = 2.0
    gaze: float = 1.0
    vergence: float = 3.0  # Difference between the gazes of both eyes.
    limit: float = 5.0
    identity: float = 0.2
    steady: float = 5.0


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
    data_fields=["model", "camera", "importance", "lids", "score_importance", "unit", "weights"],
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
    weights: dict[str, float]


@partial(jax.tree_util.register_dataclass, data_fields=["points", "scores", "steady"], meta_fields=[])
@dataclass(frozen=True)
class Targets:
    """What frames are fitted to: points [..., L, 3] in pixels, scores [..., E], smoothed Frames and their weight."""

    points: jax.Array
    scores: jax.Array
    steady: tuple[Frames, jax.Array]


def fit(
    model: FaceModel,
    embedding: Embedding,
    importance: np.ndarray,
    lids: np.ndarray,
    points: np.ndarray,
    scores: np.ndarray,
    score_importance: np.ndarray,
    camera: Camera,
    unit: float,
    shot: np.ndarray,
    weights: Weights = Weights(),
    sigma: float = 1.5,
) -> FaceParameters:
    """The parameters of all N frames.

    Args:
        embedding: of the L landmarks on `model`. importance: [L], 1 for a landmark that counts fully.
        lids: int [2, P], pairs of landmarks, on upper and on lower lids.
        points: [N, L, 3], x and y in pixels, depth in the same unit (small is near).
        scores: [N, E], the tracker's guess of each expression weight. score_importance: [E], 0 where it has none.
        camera: in pixels of the same picture.
        unit: the distance between the outer eye corners in pixels.
        shot: int [N], -1 for frames without a face, whose parameters are those of the nearest frame with one.
        sigma: of the smoothing in time that the second pass is drawn towards, in frames; 0 leaves that pass out.
    """
    usable = np.flatnonzero(shot >= 0)
    problem = _problem(model, embedding, importance, lids, score_importance, camera, unit, weights)
    points, scores = np.asarray(points, np.float32), np.asarray(scores, np.float32)
    first = _first_guess(problem, points[usable], scores[usable])
    keys = key_frames(points[usable], scores[usable], problem)
    identity = _fit_identity(problem, _take(first, keys), points[usable][keys], scores[usable][keys])
    frames = _solve(problem, identity, first, points[usable], scores[usable], first, 0.0)
    if sigma > 0:
        smooth = _smoothed(frames, shot[usable], sigma)
        frames = _solve(problem, identity, smooth, points[usable], scores[usable], smooth, 1.0)
    nearest = np.abs(np.arange(len(shot))[:, None] - usable).argmin(axis=1)
    return parameters_of(identity, _take(frames, nearest))


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


def _problem(model, embedding, importance, lids, score_importance, camera, unit, weights: Weights) -> Problem:
    return Problem(
        model=model.restricted(embedding),
        camera=camera,
        importance=np.asarray(importance, np.float32),
        lids=np.asarray(lids, np.int32),
        score_importance=np.asarray(score_importance, np.float32),
        unit=np.float32(unit),
        weights={field.name: np.float32(getattr(weights, field.name)) for field in fields(weights)},
    )


def _residual(problem: Problem, identity: jax.Array, frame: Frames, targets: Targets) -> jax.Array:
    """All terms of one frame but the identity's prior; the module's text names them."""
    weights = problem.weights
    parameters = parameters_of(identity, jax.tree.map(lambda array: array[None], frame))
    points = problem.model.vertices(parameters)[0]
    screen = problem.camera.project(points)
    offset = (screen[:, :2] - targets.points[:, :2]) / problem.unit
    point = _robust(offset * (weights["point"] * problem.importance)[:, None], 2.0)
    upper, lower = offset[problem.lids]
    middle = (screen[:, 2] * problem.importance).sum() / problem.importance.sum()
    away = (screen[:, 2] - middle) * problem.camera.focal / middle
    tracked = targets.points[:, 2] - (targets.points[:, 2] * problem.importance).sum() / problem.importance.sum()
    depth = _robust(((away - tracked) / problem.unit * weights["depth"] * problem.importance)[:, None], 1.0)
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
            ((upper - lower) * weights["lids"]).ravel(),
            (frame.expression - targets.scores) * problem.score_importance * weights["score"],
            frame.expression * weights["expression"],
            frame.jaw * weights["jaw"],
            frame.gaze.ravel() * weights["gaze"],
            (frame.gaze[0] - frame.gaze[1]) * weights["vergence"],
            beyond * weights["limit"],
            _robust((change * weights["steady"] * steadiness)[:, None], 0.5).ravel(),
        ]
    )


def _robust(vectors: jax.Array, delta: float) -> jax.Array:
    """Vectors [..., D] shortened so that their squares are the pseudo-Huber function of their lengths."""
    squared = (vectors**2).sum(-1, keepdims=True) / delta**2
    # rho / x^2 as a quotient that is exact at 0: 2 (sqrt(1 + x^2) - 1) / x^2 = 2 / (1 + sqrt(1 + x^2)).
    return vectors * jnp.sqrt(2 / (1 + jnp.sqrt(1 + squared)))


def _solver() -> optimistix.LevenbergMarquardt:
    return optimistix.LevenbergMarquardt(rtol=1e-2, atol=1e-2, linear_solver=lineax.Normal(lineax.Cholesky()))


@jax.jit
def _solve_chunk(problem: Problem, identity: jax.Array, start: Frames, targets: Targets) -> Frames:
    def one(args: tuple[Frames, Targets]) -> Frames:
        frame, target = args
        return optimistix.least_squares(
            lambda unknown, _: _residual(problem, identity, unknown, target),
            _solver(),
            frame,
            max_steps=_STEPS,
            throw=False,
        ).value

    return jax.lax.map(one, (start, targets))


def _solve(
    problem: Problem,
    identity: jax.Array,
    start: Frames,
    points: np.ndarray,
    scores: np.ndarray,
    steady: Frames,
    steadiness: float,
) -> Frames:
    """All frames with the identity given; two chunks at a time, since one keeps one core busy."""
    count = len(points)

    def chunk(first: int) -> Frames:
        which = np.minimum(np.arange(first, first + CHUNK), count - 1)
        weight = np.full(CHUNK, steadiness, np.float32)
        targets = Targets(points[which], scores[which], (_take(steady, which), weight))
        return jax.device_get(_solve_chunk(problem, identity, _take(start, which), targets))

    with ThreadPoolExecutor(2) as pool:
        solved = list(pool.map(chunk, range(0, count, CHUNK)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *solved)


@jax.jit
def _solve_identity(problem: Problem, identity: jax.Array, frames: Frames, targets: Targets):
    """(identity, frames): the identity, the poses of all key frames, and one change of expression common to them.

    Without that change what one face looks like at rest would be shared between its identity and all its expressions as
    the first guess has it.
    """

    def residual(unknown, _):
        shape, turned, moved, common = unknown
        posed = replace(frames, rotation=turned, translation=moved, expression=frames.expression + common)
        terms = jax.vmap(lambda frame, target: _residual(problem, shape, frame, target))(posed, targets)
        return jnp.concatenate([terms.ravel(), shape * problem.weights["identity"]])

    start = (identity, frames.rotation, frames.translation, jnp.zeros(frames.expression.shape[-1]))
    found = optimistix.least_squares(residual, _solver(), start, max_steps=_STEPS // 2, throw=False).value
    return found[0], replace(frames, rotation=found[1], translation=found[2], expression=frames.expression + found[3])


def _fit_identity(problem: Problem, frames: Frames, points: np.ndarray, scores: np.ndarray) -> jax.Array:
    identity = jnp.zeros(problem.model.identity_size)
    targets = Targets(points, scores, (frames, np.zeros(len(points), np.float32)))
    for _ in range(ROUNDS):
        identity, frames = _solve_identity(problem, identity, frames, targets)
        frames = _solve(problem, identity, frames, points, scores, frames, 0.0)
    return identity


def key_frames(points: np.ndarray, scores: np.ndarray, problem: Problem) -> np.ndarray:
    """Frames int [at most KEY_FRAMES] that differ most from each other in pose and expression (farthest first)."""
    looks = np.concatenate([points.reshape(len(points), -1) / problem.unit / 5, scores], axis=1)
    chosen = [int(np.linalg.norm(looks - np.median(looks, axis=0), axis=1).argmin())]
    distance = np.linalg.norm(looks - looks[chosen[0]], axis=1)
    while len(chosen) < min(KEY_FRAMES, len(points)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(looks - looks[chosen[-1]], axis=1))
    # Always as many, so that clips of any length run the same program.
    return np.resize(np.array(chosen), KEY_FRAMES)


def _first_guess(problem: Problem, points: np.ndarray, scores: np.ndarray) -> Frames:
    """Scores as expressions, and the pose that lays the average face over the tracked points (Umeyama 1991)."""
    model, count = problem.model, len(points)
    expression = np.clip(scores * (problem.score_importance > 0), *problem.model.limits).astype(np.float32)
    resting = parameters_of(
        jnp.zeros(model.identity_size),
        Frames(np.zeros_like(expression[:1]), *(np.zeros((1, *s), np.float32) for s in ((3,), (2, 2), (3,), (3,)))),
    )
    average = np.asarray(model.vertices(resting))[0].astype(np.float64)
    weight = (problem.importance / problem.importance.sum())[:, None].astype(np.float64)
    # Pixels, with y up and z to the viewer.
    tracked = points.astype(np.float64) * [1, -1, -1]
    centre, middles = (weight * average).sum(0), (weight * tracked).sum(1)
    rest, seen = average - centre, tracked - middles[:, None]
    left, scales, right = np.linalg.svd(np.einsum("nli,lj->nij", seen * weight, rest))
    mirrored = np.ones((count, 3))
    mirrored[:, 2] = np.sign(np.linalg.det(left @ right))
    turn = (left * mirrored[:, None]) @ right
    pixels = (scales * mirrored).sum(1) / (weight * rest**2).sum()
    depth = problem.camera.focal / pixels
    axis = np.asarray(problem.camera.centre) * [1, -1]
    middle = np.concatenate([(middles[:, :2] - axis) / pixels[:, None], -depth[:, None]], axis=1)
    return Frames(
        expression=expression,
        jaw=np.zeros((count, 3), np.float32),
        gaze=np.zeros((count, 2, 2), np.float32),
        rotation=rotation.vector(turn).astype(np.float32),
        translation=(middle - turn @ centre).astype(np.float32),
    )


def _smoothed(frames: Frames, shot: np.ndarray, sigma: float) -> Frames:
    """Each unknown averaged over time within its shot."""

    def smooth(values: np.ndarray) -> np.ndarray:
        result = np.array(values)
        for number in np.unique(shot):
            result[shot == number] = gaussian_over_time(values[shot == number], sigma)
        return result

    return jax.tree.map(smooth, frames)


def _take(frames: Frames, which: np.ndarray) -> Frames:
    return jax.tree.map(lambda array: np.asarray(array)[which], frames)
