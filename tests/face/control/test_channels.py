from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.errors import UserError
from svp_jax.face.control.channels import JAW_OPEN, apply, check_overlap, resolve, vocabulary
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.flame import load_flame
from svp_jax.face.morphable.ict import load_ict
from svp_jax.face.morphable.mediapipe import build_mediapipe
from svp_jax.face.morphable.multi_pie import IRISES
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.tracking import pose_angles

TWO_SIDED = (
    "browOuterUp",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "mouthFrown",
    "mouthSmile",
)
CHANNELS = (
    *(f"{name}{side}" for name in TWO_SIDED for side in ("Left", "Right")),
    *("browInnerUp", "cheekPuff", "jawLeft", "jawOpen", "jawRight", "mouthLeft", "mouthPucker", "mouthRight"),
)
FRAMES = 3


@pytest.fixture(scope="module")
def face():
    """MediaPipe's model of a random person, with 70 landmarks."""
    rng = np.random.default_rng(0)
    landmarks = rng.normal(0, 20, (70, 3))
    # The eyes' corners in a row, the irises between them, the mouth below (y is downwards here, small depth is near).
    landmarks[[36, 39, 42, 45]] = [[-50, 0, 0], [-20, 0, 0], [20, 0, 0], [50, 0, 0]]
    landmarks[[68, 69]] = [[-35, 0, -5], [35, 0, -5]]
    landmarks[[48, 54]] = [[-20, 70, 0], [20, 70, 0]]
    return build_mediapipe(landmarks + rng.normal(0, 0.3, (40, 70, 3)), rng.random((40, len(CHANNELS))), CHANNELS)


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    return load_flame(write_smplx(tmp_path_factory.mktemp("flame"), random_flame(), random_embeddings()))


@pytest.fixture(scope="module")
def ict(shared):
    return load_ict(shared / "face_models" / "ict_face_model.npz")


def random_parameters(model, frames: int, seed: int = 0) -> FaceParameters:
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)

    return FaceParameters(
        identity=normal(model.identity_size),
        expression=jnp.asarray(rng.uniform(0.1, 0.4, (frames, len(model.channels))), jnp.float32),
        jaw=normal(frames, 3),
        neck=normal(frames, 3),
        eyes=normal(frames, 2, 3),
        rotation=normal(frames, 3),
        translation=normal(frames, 3) - jnp.array([0, 0, 10.0]),
    )


@pytest.fixture
def motion(face):
    return random_parameters(face, FRAMES)


@pytest.fixture
def rest(face):
    return random_parameters(face, 1, seed=1)


def changed(before: FaceParameters, after: FaceParameters) -> set[str]:
    """Names of the arrays that differ, of expressions those of the channels."""
    names = {name for name, array in before.arrays().items() if np.any(array != after.arrays()[name])}
    columns = np.flatnonzero(np.any(np.asarray(before.expression) != np.asarray(after.expression), axis=0))
    return names - {"expression"} | {CHANNELS[column] for column in columns}


def column(parameters: FaceParameters, name: str) -> np.ndarray:
    return parameters.expression[:, CHANNELS.index(name)]


def relative_angles(parameters: FaceParameters, rest: FaceParameters) -> np.ndarray:
    return pose_angles(np.asarray(rotation.matrix(parameters.rotation) @ rotation.matrix(rest.rotation)[0].T))


@pytest.mark.parametrize(
    "name, channels",
    [
        ("eyeBlinkLeft", {"eyeBlinkLeft"}),
        ("eyeBlink", {"eyeBlinkLeft", "eyeBlinkRight"}),
        ("blink", {"eyeBlinkLeft", "eyeBlinkRight"}),
        ("smile", {"mouthSmileLeft", "mouthSmileRight"}),
        ("frown", {"mouthFrownLeft", "mouthFrownRight"}),
        ("browUp", {"browOuterUpLeft", "browOuterUpRight", "browInnerUp"}),
        ("browInnerUp", {"browInnerUp"}),
        ("pucker", {"mouthPucker"}),
        ("mouthOpen", {"jawOpen"}),
        ("mouthLeft", {"mouthLeft"}),
    ],
)
def test_names_of_channels_fix_them_and_nothing_else(face, motion, rest, name, channels):
    values = np.array([0.0, 0.7, 1.2])
    fixed = apply({name: values}, motion, rest, face)
    assert changed(motion, fixed) == channels
    for channel in channels:
        np.testing.assert_allclose(column(fixed, channel), values, atol=1e-6)


def test_directions_are_not_sides(face):
    assert not {"mouth", "jaw"} & vocabulary(face).keys()


def test_ict_splits_what_others_have_in_one(ict):
    for name in ("browInnerUp", "cheekPuff"):
        assert {ict.channels[index] for index in resolve(name, ict).indices} == {f"{name}Left", f"{name}Right"}
    assert len(resolve("browUp", ict).indices) == 4


def test_all_known_names_can_be_set(face, flame, motion, rest):
    for name in vocabulary(face):
        apply({name: 0.5}, motion, rest, face)
    for name in vocabulary(flame):
        apply({name: 0.5}, random_parameters(flame, 2), random_parameters(flame, 1), flame)


@pytest.mark.parametrize("index, name", [(0, "yaw"), (1, "pitch"), (2, "roll")])
def test_an_angle_is_relative_to_the_neutral_and_leaves_the_others(face, motion, rest, index, name):
    fixed = apply({name: 25}, motion, rest, face)
    assert changed(motion, fixed) == {"rotation"}
    expected = relative_angles(motion, rest)
    expected[:, index] = 25
    np.testing.assert_allclose(relative_angles(fixed, rest), expected, atol=1e-3)


def test_no_angle_is_the_neutral_itself(face, motion, rest):
    fixed = apply({"yaw": 0, "pitch": 0, "roll": 0}, motion, rest, face)
    np.testing.assert_allclose(fixed.rotation, np.repeat(rest.rotation, FRAMES, axis=0), atol=1e-6)


def test_yaw_adds_to_the_picture_s(face, rest):
    turned = apply({"yaw": [0, 15, -40]}, rest.frames(np.zeros(3, int)), rest, face)
    seen = pose_angles(np.asarray(rotation.matrix(turned.rotation)))
    np.testing.assert_allclose(seen[:, 0] - seen[0, 0], [0, 15, -40], atol=1e-3)


@pytest.mark.parametrize("axis, name", [(0, "x"), (1, "y"), (2, "z")])
def test_places_are_in_eye_distances(face, motion, rest, axis, name):
    moved = apply({name: [0, 0.5, -1]}, motion, rest, face)
    assert changed(motion, moved) == {"translation"}
    expected = np.array(motion.translation)
    # MediaPipe's model has the eyes' corners 1 apart, here but for the expression.
    corners = face.landmarks.points(face.vertices(rest))[0, np.array([36, 45])]
    unit = np.linalg.norm(corners[0] - corners[1])
    assert abs(unit - 1) < 0.2
    expected[:, axis] = rest.translation[0, axis] + unit * np.array([0, 0.5, -1])
    np.testing.assert_allclose(moved.translation, expected, atol=1e-5)


def irises(model, parameters: FaceParameters) -> np.ndarray:
    """[B, 2, 3], where the centres of right and left iris are."""
    return np.asarray(model.landmarks.points(model.vertices(parameters)))[:, IRISES]


def at_rest(model, frames: int = 1) -> FaceParameters:
    return FaceParameters(
        identity=np.zeros(model.identity_size, np.float32),
        expression=np.zeros((frames, len(model.channels)), np.float32),
        eyes=np.zeros((frames, 2, 3), np.float32),
        **{name: np.zeros((frames, 3), np.float32) for name in ("jaw", "neck", "rotation", "translation")},
    )


@pytest.mark.parametrize("which", ["face", "flame", "ict"])
@pytest.mark.parametrize("name, axis", [("gazeYaw", 0), ("gazePitch", 1)])
def test_gaze_turns_both_eyes_to_the_right_and_up(request, which, name, axis):
    model = request.getfixturevalue(which)
    rest = at_rest(model)
    # Without the lids' channels, which move what is around the eyes.
    turned = replace(apply({name: 20}, rest, rest, model), expression=rest.expression)
    moves = (irises(model, turned) - irises(model, rest))[0]
    assert (moves[:, axis] > 0).all()
    # In random models the irises lie a little beside the eyes' axes.
    assert (np.abs(moves[:, 1 - axis]) < 0.3 * moves[:, axis]).all()


def test_a_gaze_is_relative_to_the_neutral_s_and_leaves_the_other_angle(face, motion, rest):
    fixed = apply({"gazePitch": 10}, motion, rest, face)
    assert changed(motion, fixed) == {
        "eyes",
        *(f"eyeLook{way}{side}" for way in ("Up", "Down") for side in ("Left", "Right")),
    }
    expected = np.array(motion.eyes)
    expected[:, :, 0] = rest.eyes[:, :, 0] - np.radians(10)
    np.testing.assert_allclose(fixed.eyes, expected, atol=1e-6)


@pytest.mark.parametrize(
    "name, degrees, lids",
    [
        ("gazePitch", 15, {"eyeLookUpLeft": 0.5, "eyeLookUpRight": 0.5}),
        ("gazePitch", -45, {"eyeLookDownLeft": 1, "eyeLookDownRight": 1}),
        ("gazeYaw", 15, {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5}),
        ("gazeYaw", -15, {"eyeLookInLeft": 0.5, "eyeLookOutRight": 0.5}),
    ],
)
def test_lids_follow_the_gaze(face, name, degrees, lids):
    rest = at_rest(face)
    looking = apply({name: degrees}, rest, rest, face)
    found = {channel: float(value) for channel, value in zip(CHANNELS, looking.expression[0], strict=True) if value}
    assert found == lids


def test_lids_start_from_the_neutral_s_and_give_way_to_their_own_names(face, rest):
    assert changed(rest, apply({"gazePitch": 0, "gazeYaw": 0}, rest, rest, face)) == set()
    looking = apply({"eyeLookUpLeft": 0.9, "gazePitch": 6}, rest, rest, face)
    assert column(looking, "eyeLookUpLeft") == np.float32(0.9)
    np.testing.assert_allclose(column(looking, "eyeLookUpRight"), column(rest, "eyeLookUpRight") + 0.2, atol=1e-6)
    lowered = np.maximum(column(rest, "eyeLookDownRight") - 0.2, 0)
    np.testing.assert_allclose(column(looking, "eyeLookDownRight"), lowered, atol=1e-6)


def test_the_left_eye_s_channels_are_at_the_picture_s_right(ict):
    rest = at_rest(ict)
    moved = {}
    for name in ("eyeLookOutLeft", "eyeBlinkRight"):
        offsets = np.asarray(ict.vertices(apply({name: 1}, rest, rest, ict)) - ict.vertices(rest))[0]
        moved[name] = np.asarray(ict.neutral)[np.linalg.norm(offsets, axis=1).argmax(), 0]
    assert moved["eyeLookOutLeft"] > 2 and moved["eyeBlinkRight"] < -2


def test_flame_opens_its_jaw(flame):
    rest = at_rest(flame)
    # A stiff jaw: every vertex turns with it.
    stiff = replace(flame, skinning=np.eye(5, dtype=np.float32)[np.full(len(flame.template), 2)], pose=0 * flame.pose)
    open_ = apply({"mouthOpen": 1}, rest, rest, flame)
    np.testing.assert_allclose(open_.jaw, [[JAW_OPEN, 0, 0]])
    before, after = (np.asarray(stiff.vertices(parameters))[0] for parameters in (rest, open_))
    chin = before[:, 2] - float(stiff.rest_joints(rest)[0, 2, 2]) > 0.05
    assert (after[chin, 1] < before[chin, 1]).all()


def test_flame_has_no_smile(flame):
    message = (
        r"^--set: unknown name 'smile': FLAME's expressions are .* without names; known: yaw, .*expression_0 to exp"
    )
    with pytest.raises(UserError, match=message):
        resolve("smile", flame, "--set")
    assert resolve("expression_7", flame).indices == (7,)


def test_unknown_names_name_the_nearest(face):
    with pytest.raises(UserError, match=r"^moves\.csv, line 3: unknown name 'smiel'; did you mean smile\?$"):
        resolve("smiel", face, "moves.csv, line 3")
    with pytest.raises(UserError, match=r"unknown name 'zzz'; known: yaw, pitch, roll, x, .*, mouthOpen$"):
        resolve("zzz", face)


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("jawOpen", 1.6, "-0.5 to 1.5"),
        ("blink", -0.6, "-0.5 to 1.5"),
        ("yaw", 91, "-90 to 90"),
        ("gazePitch", -61, "-60 to 60"),
        ("z", 3.5, "-20 to 3"),
        ("smile", np.nan, "-0.5 to 1.5"),
    ],
)
def test_values_far_out_of_range_are_refused(face, motion, rest, name, value, allowed):
    with pytest.raises(UserError, match=f"^--set: {name} is {value:g}, allowed are {allowed}$"):
        apply({name: [0, value, 0]}, motion, rest, face, "--set")


def test_what_is_set_twice_is_refused(face, motion, rest):
    with pytest.raises(UserError, match=r"^--set: smile and mouthSmileLeft set the same part of the face; give one"):
        apply({"smile": 1, "mouthSmileLeft": 0}, motion, rest, face, "--set")
    check_overlap({name: resolve(name, face) for name in ("smile", "eyeBlinkLeft", "x", "y", "yaw")}, "--set")


def test_models_without_channels_have_poses_and_gaze(face):
    bare = replace(face, channels=())
    assert tuple(vocabulary(bare)) == ("yaw", "pitch", "roll", "x", "y", "z", "gazeYaw", "gazePitch")


def test_eyes_that_close_are_no_longer_wide(ict):
    column = {name: index for index, name in enumerate(ict.channels)}
    both = np.array([column["eyeWideLeft"], column["eyeWideRight"]])
    rest = random_parameters(ict, 1)
    rest = replace(rest, expression=rest.expression.at[0, both].set(0.4))
    frames = rest.frames(np.zeros(3, int))
    closed = np.array([0, 0.25, 1])
    found = apply({"eyeBlinkLeft": closed}, frames, rest, ict).expression
    np.testing.assert_allclose(found[:, column["eyeWideLeft"]], 0.4 * (1 - closed), atol=1e-6)
    np.testing.assert_allclose(found[:, column["eyeWideRight"]], 0.4, atol=1e-6)
    kept = apply({"blink": closed, "eyeWideLeft": 0.3}, frames, rest, ict).expression
    np.testing.assert_allclose(kept[:, column["eyeWideLeft"]], 0.3, atol=1e-6)
    np.testing.assert_allclose(kept[:, column["eyeWideRight"]], 0.4 * (1 - closed), atol=1e-6)
