"""The fit of a face model to landmarks that the model itself made: what comes out is what went in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svp_jax.face.morphable import fitting, rotation
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.fit_terms import Frames, parameters_of
from svp_jax.face.morphable.ict import ICT
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.morphable.tracked import fit_tracking
from svp_jax.face.smoothing import gaussian_over_time

FRAMES = 48
CAMERA = Camera(np.float32(512), np.array([128, 128], np.float32))
MOVED = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthPucker", "browInnerUpLeft", "browDownRight", "jawLeft")


def wandering(rng, size: int, amplitude: float) -> np.ndarray:
    """Smooth random curves [FRAMES, size] of about that amplitude, as heads move."""
    curves = gaussian_over_time(rng.normal(size=(FRAMES + 40, size)), 6)[20:-20]
    return amplitude * curves / curves.std()


def made(model: ICT, seed: int) -> FaceParameters:
    """Somebody who nods, looks about, talks and blinks, a metre away."""
    rng = np.random.default_rng(seed)
    channels = {name: index for index, name in enumerate(model.channels)}
    expression = np.zeros((FRAMES, len(channels)), np.float32)
    expression[:, [channels[name] for name in MOVED]] = np.clip(wandering(rng, len(MOVED), 0.5), 0, 1)
    blink = np.clip(np.sin(np.arange(FRAMES) / 5) * 1.6 - 0.6, 0, 1)
    expression[:, [channels["eyeBlinkLeft"], channels["eyeBlinkRight"]]] = blink[:, None]
    # On average ahead: a gaze that never changes cannot be told from eyeballs that lie elsewhere.
    gaze = wandering(rng, 2, 8)
    gaze = np.repeat(np.radians(gaze - gaze.mean(axis=0))[:, None], 2, axis=1)
    place = wandering(rng, 3, 2) + np.array([0, 0, -100])
    frames = Frames(
        expression=expression,
        jaw=np.zeros((FRAMES, 3), np.float32),
        gaze=gaze.astype(np.float32),
        rotation=np.radians(wandering(rng, 3, 8)).astype(np.float32),
        translation=place.astype(np.float32),
    )
    identity = np.clip(rng.normal(size=model.identity_size), -2, 2).astype(np.float32)
    return jax.tree.map(np.asarray, parameters_of(identity, frames))


def tracked(model: ICT, parameters: FaceParameters) -> np.ndarray:
    """The 70 Multi-PIE points [N, 70, 3] as a tracker gives them: x and y in pixels, depth as large as at the face."""
    screen = np.array(CAMERA.project(model.restricted(model.landmarks).vertices(parameters)))
    middle = screen[..., 2].mean(axis=1, keepdims=True)
    screen[..., 2] = (screen[..., 2] - middle) * CAMERA.focal / middle
    return screen


def fitted(model: ICT, landmarks: np.ndarray, scores: np.ndarray | None, shot=None) -> FaceParameters:
    count = len(landmarks)
    names = () if scores is None else model.channels
    given = np.zeros((count, 0), np.float32) if scores is None else scores
    shot = np.zeros(count, np.int32) if shot is None else shot
    found = fit_tracking(model, model.landmarks, landmarks, given, names, shot, CAMERA)
    return jax.tree.map(np.asarray, found)


def degrees_apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    between = jnp.swapaxes(rotation.matrix(jnp.asarray(a)), -1, -2) @ rotation.matrix(jnp.asarray(b))
    return np.degrees(np.linalg.norm(rotation.vector(np.asarray(between)), axis=-1))


@pytest.fixture(scope="module")
def truth(ict):
    return made(ict, 0)


@pytest.fixture(scope="module")
def landmarks(ict, truth):
    return tracked(ict, truth)


@pytest.fixture(scope="module")
def guessed(truth):
    """Scores as trackers err: each channel too weak or too strong, and trembling."""
    rng = np.random.default_rng(1)
    factor = rng.uniform(0.6, 1.4, truth.expression.shape[1])
    return np.clip(truth.expression * factor + rng.normal(0, 0.05, truth.expression.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def found(ict, landmarks, guessed):
    return fitted(ict, landmarks, guessed)


def test_pose_and_gaze_come_back(truth, found):
    # The second pass smooths what moves this fast, by a few tenths of a degree.
    assert degrees_apart(truth.rotation, found.rotation).mean() < 0.5
    gaze = np.degrees(np.abs(found.eyes - truth.eyes)[..., :2])
    assert gaze.mean() < 2
    for side in range(2):
        assert np.corrcoef(found.eyes[:, side, 1], truth.eyes[:, side, 1])[0, 1] > 0.97


def test_expressions_come_back(ict, truth, found):
    error = np.abs(found.expression - truth.expression)
    assert error.mean() < 0.05
    for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"):
        assert error[:, ict.channels.index(name)].mean() < 0.05, name


def test_without_scores_landmarks_alone_tell_mouth_and_lids(ict, truth, landmarks):
    found = fitted(ict, landmarks, None)
    assert degrees_apart(truth.rotation, found.rotation).mean() < 1
    for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"):
        channel = ict.channels.index(name)
        # Other channels move the same landmarks a little: what is right is when and about how much.
        assert np.corrcoef(found.expression[:, channel], truth.expression[:, channel])[0, 1] > 0.95, name
        assert np.abs(found.expression - truth.expression)[:, channel].mean() < 0.1, name


def test_the_projection_meets_the_landmarks(ict, landmarks, found):
    again = tracked(ict, found)
    off = np.linalg.norm((again - landmarks)[..., :2], axis=-1)
    assert off.mean() < 0.01 * np.linalg.norm(landmarks[0, 36, :2] - landmarks[0, 45, :2])


def test_one_wild_landmark_moves_little(ict, truth, landmarks, guessed, found):
    wild = landmarks.copy()
    wild[:, 54, :2] += [40, -30]  # A corner of the mouth, half a face away.
    shaken = fitted(ict, wild, guessed)
    assert degrees_apart(truth.rotation, shaken.rotation).mean() < 3
    eyes = [ict.channels.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
    assert np.abs(shaken.expression - found.expression)[:, eyes].mean() < 0.05


def test_frames_without_a_face_take_the_nearest_ones(ict, landmarks, guessed):
    shot = np.zeros(FRAMES, np.int32)
    shot[[0, 10, 11, 12]] = -1
    shot[13:] = 1
    gaps = landmarks.copy()
    gaps[shot < 0] = np.nan
    scores = np.where((shot < 0)[:, None], np.nan, guessed)
    result = fitted(ict, gaps, scores, shot)
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(result))
    for taken, source in ((0, 1), (10, 9), (11, 9), (12, 13)):
        np.testing.assert_array_equal(result.rotation[taken], result.rotation[source])
        np.testing.assert_array_equal(result.expression[taken], result.expression[source])


def test_shots_are_smoothed_apart():
    values = np.concatenate([np.zeros((20, 3)), np.ones((20, 3))]).astype(np.float32)
    frames = Frames(values, values, np.zeros((40, 2, 2), np.float32), values, values)
    shot = np.repeat([0, 1], 20)
    np.testing.assert_allclose(fitting._smoothed(frames, shot).rotation, values, atol=1e-6)
    assert np.abs(fitting._smoothed(frames, np.zeros(40, int)).rotation - values).max() > 0.3


def test_one_compilation_for_clips_of_any_length(ict, landmarks, guessed, found):
    fitting._solve_chunk.clear_cache()
    fitting._solve_identity.clear_cache()
    for count in (FRAMES, 33, 1):
        result = fitted(ict, landmarks[:count], guessed[:count])
        assert result.rotation.shape == (count, 3)
    assert fitting._solve_chunk._cache_size() == 1
    assert fitting._solve_identity._cache_size() == 1


def test_key_frames_are_those_that_differ_most():
    points = np.zeros((50, 4, 3), np.float32)
    points[7, :, 0] = 100
    points[30, :, 1] = -80
    scores = np.zeros((50, 2), np.float32)
    scores[44, 1] = 1
    keys = fitting.key_frames(points, scores, 10.0)
    assert len(keys) == fitting.KEY_FRAMES and {7, 30, 44} < {*keys.tolist()}
