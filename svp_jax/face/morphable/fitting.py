"""Fits a face model to tracked landmarks: one identity for a clip, expression, jaw, gaze and head pose per frame.

What is minimised stands in `fit_terms`. Identity and frames are solved in turn, for frames that differ most; then all
frames with that identity, twice: the second time they are drawn towards their own motion, smoothed in time.

Frames are solved by optimistix's Levenberg-Marquardt, one by one in a compiled loop: their Jacobians are small and
dense, and batched products of small matrices are slow on a CPU.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optimistix

from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.embedding import Embedding
from svp_jax.face.morphable.first_guess import first_guess
from svp_jax.face.morphable.fit_terms import IDENTITY, Frames, Problem, Targets, make_problem, parameters_of, residual
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.smoothing import gaussian_over_time, nearest_known

CHUNK = 16  # Frames in one call of the compiled loop.
KEY_FRAMES = 16  # The identity is fitted to these, spread over the clip's poses and expressions.
ROUNDS = 2  # Alternations between identity and frames.
SIGMA = 1.5  # Of the smoothing in time that the second pass is drawn towards, in frames.
_STEPS, _IDENTITY_STEPS = 16, 4  # Of the solver, at most, for a frame and for the identity, which is nearly linear.


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
    """
    usable = np.flatnonzero(shot >= 0)
    problem = make_problem(model, embedding, importance, lids, score_importance, camera, unit)
    points, scores = np.asarray(points, np.float32), np.asarray(scores, np.float32)
    first = first_guess(problem, points[usable], scores[usable])
    keys = key_frames(points[usable], scores[usable], unit)
    identity = _fit_identity(problem, _take(first, keys), points[usable][keys], scores[usable][keys])
    frames = _solve(problem, identity, first, points[usable], scores[usable], first, 0.0)
    smooth = _smoothed(frames, shot[usable])
    frames = _solve(problem, identity, smooth, points[usable], scores[usable], smooth, 1.0)
    return parameters_of(identity, _take(frames, nearest_known(usable, np.arange(len(shot)))))


def _solver() -> optimistix.LevenbergMarquardt:
    return optimistix.LevenbergMarquardt(rtol=1e-2, atol=1e-2, linear_solver=lineax.Normal(lineax.Cholesky()))


@jax.jit
def _solve_chunk(problem: Problem, identity: jax.Array, start: Frames, targets: Targets) -> Frames:
    def one(args: tuple[Frames, Targets]) -> Frames:
        frame, target = args
        return optimistix.least_squares(
            lambda unknown, _: residual(problem, identity, unknown, target),
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

    def terms(unknown, _):
        shape, turned, moved, common = unknown
        posed = replace(frames, rotation=turned, translation=moved, expression=frames.expression + common)
        each = jax.vmap(lambda frame, target: residual(problem, shape, frame, target))(posed, targets)
        return jnp.concatenate([each.ravel(), shape * IDENTITY])

    start = (identity, frames.rotation, frames.translation, jnp.zeros(frames.expression.shape[-1]))
    found = optimistix.least_squares(terms, _solver(), start, max_steps=_IDENTITY_STEPS, throw=False).value
    return found[0], replace(frames, rotation=found[1], translation=found[2], expression=frames.expression + found[3])


def _fit_identity(problem: Problem, frames: Frames, points: np.ndarray, scores: np.ndarray) -> jax.Array:
    identity = jnp.zeros(problem.model.identity_size)
    targets = Targets(points, scores, (frames, np.zeros(len(points), np.float32)))
    for _ in range(ROUNDS):
        identity, frames = _solve_identity(problem, identity, frames, targets)
        frames = _solve(problem, identity, frames, points, scores, frames, 0.0)
    return identity


def key_frames(points: np.ndarray, scores: np.ndarray, unit: float) -> np.ndarray:
    """Frames int [at most KEY_FRAMES] that differ most from each other in pose and expression (farthest first)."""
    looks = np.concatenate([points.reshape(len(points), -1) / unit / 5, scores], axis=1)
    chosen = [int(np.linalg.norm(looks - np.median(looks, axis=0), axis=1).argmin())]
    distance = np.linalg.norm(looks - looks[chosen[0]], axis=1)
    while len(chosen) < min(KEY_FRAMES, len(points)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(looks - looks[chosen[-1]], axis=1))
    # Always as many, so that clips of any length run the same program.
    return np.resize(np.array(chosen), KEY_FRAMES)


def _smoothed(frames: Frames, shot: np.ndarray) -> Frames:
    """Each unknown averaged over time within its shot."""

    def smooth(values: np.ndarray) -> np.ndarray:
        result = np.array(values)
        for number in np.unique(shot):
            result[shot == number] = gaussian_over_time(values[shot == number], SIGMA)
        return result

    return jax.tree.map(smooth, frames)


def _take(frames: Frames, which: np.ndarray) -> Frames:
    return jax.tree.map(lambda array: np.asarray(array)[which], frames)
