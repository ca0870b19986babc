"""Where the solver starts: the tracker's scores as expressions, the average face laid over the landmarks."""

import jax.numpy as jnp
import numpy as np

from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.fit_terms import Frames, Problem, parameters_of


def first_guess(problem: Problem, points: np.ndarray, scores: np.ndarray) -> Frames:
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
