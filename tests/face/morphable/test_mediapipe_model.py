"""The face model made of a clip, from clips whose faces are a known linear model before a moving camera."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

from svp_jax.face.morphable import mediapipe, rotation
from svp_jax.face.morphable.embedding import at_vertices
from svp_jax.face.morphable.mediapipe import MediaPipeFace, build_mediapipe
from svp_jax.face.morphable.multi_pie import COUNT, EYES, FROM_MEDIAPIPE, NOSE
from svp_jax.face.morphable.parameters import FaceParameters, neutral

CHANNELS = ("jawOpen", "eyeBlinkLeft", "eyeLookOutLeft", "mouthSmileLeft", "cheekPuff")
FRAMES = 60
# The fit shrinks what channels do by about 1 / 1000 (its ridge), and they move points by up to 0.2.
WITHIN = 1e-3

vertices_of = jax.jit(MediaPipeFace.vertices)


@dataclass(frozen=True)
class Clip:
    """Landmarks [N, L, 3] in pixels, small depth near, of mean [L, 3] + scores [N, E] @ basis [E, L, 3]."""

    mean: np.ndarray
    basis: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def built(self) -> MediaPipeFace:
        return build_mediapipe(self.landmarks, self.scores, CHANNELS)


def make_clip(count: int = 478, active: float = 1.0) -> Clip:
    """A face that looks ahead in the model's own unit; cheekPuff is never seen, the others as far as `active`."""
    rng = np.random.default_rng(0)
    places = np.array(FROM_MEDIAPIPE) if count == 478 else np.arange(COUNT)
    mean = rng.uniform(-0.8, 0.8, (count, 3))
    basis = 0.05 * rng.normal(size=(5, count, 3))
    # Corners of the eyes, bridge and root of the nose are what expressions do not move; nor here the mouth's corners.
    for point, place in {36: (-0.5, 0), 39: (-0.2, 0.03), 42: (0.2, 0.03), 45: (0.5, 0)}.items():
        mean[places[point]] = [*place, 0]
    mean[places[[48, 54]]] = [[-0.25, -0.8, 0], [0.25, -0.8, 0]]
    basis[:, places[[36, 39, 42, 45, 48, 54, *range(NOSE.start, NOSE.stop)]]] = 0
    for iris, x in ((68, -0.33), (69, 0.37)):
        five = places[iris] + np.arange(5 if count == 478 else 1)
        ring = 0.06 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        mean[five] = np.array([x, 0.04, 0.01]) + ring[: len(five)]
    scores = active * rng.uniform(0, 1, (FRAMES, 5))
    scores[:, 4] = 0
    turns = np.asarray(rotation.matrix(rng.uniform(-0.6, 0.6, (FRAMES, 3)).astype(np.float32)), np.float64)
    shapes = mean + np.tensordot(scores, basis, 1)
    size = rng.uniform(80, 150, (FRAMES, 1, 1))
    moved = size * shapes @ turns.swapaxes(1, 2) + rng.uniform(100, 300, (FRAMES, 1, 3))
    return Clip(mean, basis, scores, moved * [1, -1, -1])


@pytest.fixture(scope="module", params=[478, COUNT], ids=["mediapipe", "multi_pie"])
def clip(request) -> Clip:
    return make_clip(request.param)


def posed(model: MediaPipeFace, **arrays: np.ndarray) -> FaceParameters:
    frames = len(next(iter(arrays.values())))
    single = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return replace(neutral(0, len(model.channels), frames), **single)


def test_meshes_of_scores_that_were_not_seen(clip):
    model = clip.built()
    head = model.turned_by == 2
    scores = np.random.default_rng(1).uniform(0, 1, (20, 5)) * [1, 1, 1, 1, 0]
    expected = clip.mean + np.tensordot(scores, clip.basis, 1)
    found = np.asarray(vertices_of(model, posed(model, expression=scores)))
    np.testing.assert_allclose(found[:, head], expected[:, head], atol=WITHIN)
    np.testing.assert_allclose(model.basis[:4, head], clip.basis[:4, head], atol=WITHIN)
    assert model.channels == CHANNELS and model.identity_size == 0 and model.name == "mediapipe"


def test_a_channel_that_was_never_seen_moves_nothing(clip):
    model = clip.built()
    np.testing.assert_array_equal(model.basis[4], 0)
    assert model.seen[4] == 0
    np.testing.assert_allclose(model.seen, clip.scores.max(axis=0), atol=1e-7)


def test_a_clip_without_expressions_gives_its_face():
    clip = make_clip(active=0.0)
    model = clip.built()
    head = model.turned_by == 2
    np.testing.assert_allclose(model.mean[head], clip.mean[head], atol=1e-5)
    np.testing.assert_array_equal(model.basis, 0)
    one = build_mediapipe(clip.landmarks[:1], clip.scores[:1], CHANNELS)
    np.testing.assert_allclose(one.mean, model.mean, atol=1e-5)


def test_at_rest_the_face_is_upright_and_looks_ahead(clip):
    model = clip.built()
    points = np.asarray(model.landmarks.points(vertices_of(model, neutral(0, 5))))[0]
    assert len(model.landmarks) == COUNT
    np.testing.assert_allclose(points[[36, 45]], [[-0.5, 0, 0], [0.5, 0, 0]], atol=1e-5)
    np.testing.assert_allclose(points[[48, 54]], [[-0.25, -0.8, 0], [0.25, -0.8, 0]], atol=1e-5)


def test_rotation_and_translation_move_all_points_alike(clip):
    model = clip.built()
    turn, shift = [0.3, -0.5, 0.2], [1.0, 2, -7]
    rest = np.asarray(vertices_of(model, neutral(0, 5)))[0]
    found = np.asarray(vertices_of(model, posed(model, rotation=[turn], translation=[shift])))[0]
    np.testing.assert_allclose(found, rest @ np.asarray(rotation.matrix(np.float32(turn))).T + shift, atol=1e-5)


def test_irises_belong_to_the_gaze(clip):
    """They sit in the middle of their eyes at rest, move with no channel, and turn each about its own centre."""
    model = clip.built()
    irises = model.turned_by < 2
    np.testing.assert_array_equal(model.basis[:, irises], 0)
    assert np.bincount(model.turned_by[irises]).tolist() == ([5, 5] if len(model.mean) == 478 else [1, 1])

    def centres(eyes) -> np.ndarray:
        return np.asarray(model.landmarks.points(vertices_of(model, posed(model, eyes=[eyes]))))[0, 68:]

    rest = centres(np.zeros((2, 3)))
    np.testing.assert_allclose(rest[:, :2], [[-0.35, 0.015], [0.35, 0.015]], atol=1e-5)
    radius = rest[:, 2] - model.eye_centre[:, 2]
    np.testing.assert_allclose(radius, 0.135, atol=1e-6)
    # Positive angles about y turn to the picture's right, about x downwards.
    moved = centres([[0, 0.3, 0], [0.2, 0, 0]]) - rest
    expected = [[np.sin(0.3), 0, np.cos(0.3) - 1], [0, -np.sin(0.2), np.cos(0.2) - 1]]
    np.testing.assert_allclose(moved, 0.135 * np.array(expected), atol=1e-5)


def test_some_vertices_alone_move_as_in_the_whole(clip):
    model = clip.built()
    which = np.array([5, len(model.mean) - 1, 3, 68, 20])
    some = model.restricted(at_vertices(which))
    rng = np.random.default_rng(2)
    parameters = posed(
        model,
        expression=rng.uniform(size=(4, 5)),
        eyes=0.2 * rng.normal(size=(4, 2, 3)),
        rotation=rng.normal(size=(4, 3)),
        translation=rng.normal(size=(4, 3)),
    )
    np.testing.assert_allclose(vertices_of(some, parameters), vertices_of(model, parameters)[:, which], atol=1e-5)
    assert len(some.landmarks) == 0 and some.channels == model.channels


def test_both_kinds_of_landmarks_make_the_same_face():
    whole = make_clip(478)
    few = build_mediapipe(whole.landmarks[:, FROM_MEDIAPIPE], whole.scores, CHANNELS)
    many = whole.built()
    np.testing.assert_allclose(few.mean, many.mean[np.array(FROM_MEDIAPIPE)], atol=1e-5)
    np.testing.assert_allclose(few.basis, many.basis[:, FROM_MEDIAPIPE], atol=1e-5)
    np.testing.assert_allclose(few.mean[EYES], many.landmarks.points(many.mean)[EYES], atol=1e-5)


def test_the_neutral_score_is_no_channel(clip):
    scores = np.concatenate([np.full((len(clip.scores), 1), 0.5), clip.scores], axis=1)
    plain, padded = clip.built(), build_mediapipe(clip.landmarks, scores, ("_neutral", *clip.built().channels))
    assert padded.channels == plain.channels
    np.testing.assert_allclose(padded.basis, plain.basis, atol=1e-6)


def test_long_clips_are_summed_in_parts(clip, monkeypatch):
    whole = clip.built()
    monkeypatch.setattr(mediapipe, "_CHUNK", 7)
    parts = clip.built()
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(parts.basis, whole.basis, atol=1e-5)
