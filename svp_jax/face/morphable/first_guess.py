"""Where the solver starts: the tracker's scores as expressions, the average face laid over the landmarks."""

import numpy as np

from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.fit_terms import Frames, Problem
from svp_jax.face.morphable.parameters import neutral


def first_guess(problem: Problem, points: np.ndarray, scores: np.ndarray) -> Frames:
    """Scores as expressions, and the pose that lays the average face over the tracked points (Umeyama 1991)."""
    model, count = problem.model, len(points)
    expression = np.clip(scores * (problem.score_importance > 0), *problem.model.limits).astype(np.float32)
    resting = neutral(model.identity_size, expression.shape[1])
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
