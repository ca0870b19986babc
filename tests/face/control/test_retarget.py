"""One person's motion on another, where what must come out can be said beforehand."""

from dataclasses import replace

import numpy as np
import pytest
from factories import make_face_track
from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.errors import UserError
from svp_jax.face.control.channels import face_size
from svp_jax.face.control.retarget import Actor, neutral_of, retarget
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.flame import Flame, load_flame
from svp_jax.face.morphable.mediapipe import MediaPipeFace
from svp_jax.face.morphable.parameters import PER_FRAME, FaceParameters, neutral

FRAMES = 9


def make_model(channels: tuple[str, ...] | None = None, size: float = 1.0) -> MediaPipeFace:
    model = make_face_track(1).person
    model = replace(model, mean=size * model.mean, basis=size * model.basis, eye_centre=size * model.eye_centre)
    if channels is not None:
        model = replace(model, channels=channels, basis=model.basis[np.arange(len(channels)) % 5])
    return model


def make_motion(seed: int, expressions: int = 5, identity: int = 0) -> FaceParameters:
    """A head that turns, moves and looks around, with expressions of 0.3 to 0.6."""
    rng = np.random.default_rng(seed)

    def normal(scale: float, *shape) -> np.ndarray:
        return rng.normal(0, scale, (FRAMES, *shape)).astype(np.float32)

    return FaceParameters(
        identity=rng.normal(size=identity).astype(np.float32),
        expression=rng.uniform(0.3, 0.6, (FRAMES, expressions)).astype(np.float32),
        jaw=normal(0.1, 3),
        neck=normal(0.1, 3),
        eyes=normal(0.1, 2, 3),
        rotation=normal(0.3, 3),
        translation=normal(0.2, 3) - np.float32([0, 0, 6]),
    )


def actor(model, parameters: FaceParameters) -> Actor:
    return Actor(model, neutral_of(parameters, np.ones(len(parameters), bool)))


def check_same(found: FaceParameters, expected: FaceParameters) -> None:
    for name, array in found.arrays().items():
        np.testing.assert_allclose(array, getattr(expected, name), atol=2e-6, err_msg=name)


def turns(parameters: FaceParameters) -> np.ndarray:
    return np.asarray(rotation.matrix(parameters.rotation), np.float64)


@pytest.fixture(scope="module")
def flame(tmp_path_factory) -> Flame:
    folder = tmp_path_factory.mktemp("flame")
    path = write_smplx(folder, random_flame(identity=100, expression=50), random_embeddings())
    return load_flame(path, identity_size=4, expression_size=5)


def test_one_s_own_motion_is_that_motion():
    motion = make_motion(0)
    own = actor(make_model(), motion)
    check_same(retarget(motion, own, own), motion)


def test_one_s_own_motion_of_flame_is_that_motion_with_jaw_and_neck(flame):
    motion = make_motion(0, identity=4)
    own = actor(flame, motion)
    check_same(retarget(motion, own, own), motion)


def test_the_driver_at_rest_is_the_avatar_at_rest():
    driver, avatar = (actor(make_model(size=size), make_motion(seed)) for seed, size in ((1, 1.0), (2, 2.5)))
    rest = driver.neutral.frames(np.zeros(4, int))
    check_same(retarget(rest, driver, avatar), avatar.neutral.frames(np.zeros(4, int)))


def test_what_moves_is_the_difference_to_the_neutral():
    motion, model = make_motion(1), make_model()
    driver, avatar = actor(model, motion), actor(model, make_motion(2))
    found = retarget(motion, driver, avatar)
    for name in ("expression", "eyes", "jaw", "neck"):
        moved = getattr(found, name) - getattr(avatar.neutral, name)
        np.testing.assert_allclose(moved, getattr(motion, name) - getattr(driver.neutral, name), atol=2e-6)
    # Turns as the picture shows them: found = (motion driver^-1) avatar.
    seen = turns(found) @ turns(avatar.neutral).swapaxes(1, 2)
    np.testing.assert_allclose(seen, turns(motion) @ turns(driver.neutral).swapaxes(1, 2), atol=2e-6)


def test_the_avatar_keeps_its_identity(flame):
    motion = make_motion(1, identity=4)
    avatar = actor(flame, make_motion(2, identity=4))
    found = retarget(motion, actor(flame, motion), avatar)
    np.testing.assert_array_equal(found.identity, avatar.neutral.identity)
    assert len(found) == FRAMES and all(len(getattr(found, name)) == FRAMES for name in PER_FRAME)


@pytest.mark.parametrize("size", [0.1, 1.0, 9.0])
def test_a_head_moves_by_its_own_size(size):
    """Models have centimetres, metres or eye distances, and the driver's camera may see it from elsewhere."""
    motion, model = make_motion(1), make_model()
    avatar = actor(model, make_motion(2))
    grown = replace(motion, translation=size * motion.translation)
    found = retarget(grown, actor(make_model(size=size), grown), avatar)
    check_same(found, retarget(motion, actor(model, motion), avatar))
    further = replace(motion, translation=motion.translation - np.float32([1, 0, 20]))
    check_same(
        replace(retarget(further, actor(model, further), avatar), translation=found.translation),
        found,
    )
    # Of float32 sums with 20.
    moved = retarget(further, actor(model, further), avatar).translation
    np.testing.assert_allclose(moved, found.translation, atol=1e-5)


def test_shifts_are_in_parts_of_the_face():
    motion = make_motion(1)
    driver, avatar = actor(make_model(), motion), actor(make_model(size=4), make_motion(2))
    found = retarget(motion, driver, avatar)
    shift = (found.translation - avatar.neutral.translation) / face_size(avatar.model, avatar.neutral)
    before = (motion.translation - driver.neutral.translation) / face_size(driver.model, driver.neutral)
    np.testing.assert_allclose(shift, before, atol=2e-6)


def test_channels_are_matched_by_name():
    """In another order, of both sides where the driver has none, of the left where the avatar has none."""
    driver = make_model(("mouthSmileLeft", "jawOpen", "browInnerUp", "cheekPuffLeft"))
    avatar = make_model(("browInnerUpLeft", "browInnerUpRight", "tongueOut", "jawOpen", "cheekPuff"))
    rest = neutral(0, 4)
    rest.expression[:] = 0.1
    motion = rest.frames(np.zeros(2, int))
    motion.expression[1] = [0.2, 0.5, 0.4, 0.3]
    own = neutral(0, 5)
    own.expression[:] = [[0.05, 0.06, 0.07, 0.08, 0.09]]
    # A smile of 0.1 more is lost without a word.
    found = retarget(motion, Actor(driver, rest), Actor(avatar, own))
    np.testing.assert_allclose(
        found.expression, own.expression + np.array([[0] * 5, [0.3, 0.3, 0, 0.4, 0.2]]), atol=1e-6
    )
    motion.expression[1, 0] = 0.9
    with pytest.warns(UserWarning, match="has no mouthSmileLeft: left out of the motion"):
        retarget(motion, Actor(driver, rest), Actor(avatar, own))


def test_expressions_stay_within_the_avatar_s_limits():
    rest = neutral(0, 5)
    motion = neutral(0, 5, 2)
    motion.expression[:] = [[0.8] * 5, [-0.8] * 5]
    own = neutral(0, 5)
    own.expression[:] = 0.5
    found = retarget(motion, Actor(make_model(), rest), Actor(make_model(), own))
    np.testing.assert_array_equal(found.expression, [[1] * 5, [0] * 5])


def test_models_without_a_common_channel_are_refused(flame):
    with pytest.raises(UserError, match="face model flame and the avatar's mediapipe have no expression in common"):
        retarget(neutral(4, 5), Actor(flame, neutral(4, 5)), Actor(make_model(), neutral(0, 5)))


def test_the_neutral_is_the_median_of_usable_frames():
    motion = make_motion(3)
    motion.expression[4] = 100
    motion.rotation[4] = [3, 0, 0]
    usable = np.arange(FRAMES) != 4
    found = neutral_of(motion, usable)
    assert len(found) == 1
    for name in ("expression", "jaw", "neck", "eyes", "translation"):
        np.testing.assert_allclose(getattr(found, name)[0], np.median(getattr(motion, name)[usable], axis=0), atol=1e-6)


def test_the_neutral_s_rotation_is_in_the_middle():
    motion = neutral(0, 5, 3)
    motion.rotation[:] = [[0, 0.1, 0], [0, 0.4, 0], [0, 0.7, 0]]
    np.testing.assert_allclose(neutral_of(motion, np.ones(3, bool)).rotation, [[0, 0.4, 0]], atol=1e-6)


LIDS = ("jawOpen", "eyeBlinkLeft", "eyeWideLeft", "eyeBlinkRight", "eyeWideRight")


def test_shut_eyes_shut_whatever_both_are_at_rest():
    model = make_model(LIDS)
    motion = make_motion(0)
    motion.expression[:] = [0.3, 0.1, 0.2, 0.1, 0.2]
    motion.expression[4] = [0.3, 1, 0, 1, 0]
    motion.expression[5] = [0.3, 0.5, 0.1, 0.1, 0.2]
    own = neutral(0, 5)
    own.expression[:] = [0.1, 0, 0.5, 0, 0.5]
    found = retarget(motion, actor(model, motion), Actor(model, own)).expression
    # At rest as the avatar is, shut as the driver is, and between them in between.
    np.testing.assert_allclose(found[0], [0.1, 0.01, 0.47, 0.01, 0.47], atol=1e-6)
    np.testing.assert_allclose(found[4], [0.1, 1, 0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(found[5, 1:3], [0.45, 0.25], atol=1e-6)


def test_one_s_own_blinks_are_those_blinks():
    motion = make_motion(0)
    motion.expression[4] = [0.3, 1, 0, 1, 0]
    own = actor(make_model(LIDS), motion)
    check_same(retarget(motion, own, own), motion)
