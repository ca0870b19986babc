"""ICT's formula, parts and eyeballs: on a small model whose truth is known, and on the real one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ict_factory import CENTRES, DILATION, MOVES, RADIUS, RANGES, SCALES, eyeball, random_ict, write_ict

from svp_jax.face.morphable.embedding import Embedding
from svp_jax.face.morphable.ict import load_ict
from svp_jax.face.morphable.model import PART_INDEX
from svp_jax.face.morphable.multi_pie import IRISES
from svp_jax.face.morphable.parameters import FaceParameters, neutral
from svp_jax.face.morphable.rotation import from_angles, vector

SIDES = ("right", "left")
HEAD = slice(0, RANGES["eyeball_left"][0])
vertices_of = jax.jit(lambda model, parameters: model.vertices(parameters))
PERSON = np.array([0.5, -1.0, 2.0, 1.5], np.float32)


@pytest.fixture(scope="module")
def arrays():
    return random_ict()


@pytest.fixture(scope="module")
def small(arrays, tmp_path_factory):
    return load_ict(write_ict(tmp_path_factory.mktemp("ict") / "ict_face_model.npz", arrays))


def random_parameters(model, frames: int) -> FaceParameters:
    rng = np.random.default_rng(1)
    rest = neutral(model.identity_size, len(model.channels), frames)
    return FaceParameters(**{name: rng.normal(0, 0.5, a.shape).astype(np.float32) for name, a in rest.arrays().items()})


def at_rest(model, frames: int = 1, identity=PERSON) -> FaceParameters:
    return replace(neutral(model.identity_size, len(model.channels), frames), identity=identity)


def turn_between(before: np.ndarray, after: np.ndarray) -> float:
    """Degrees of the rotation that best carries points [n, 3] to others (Kabsch 1976)."""
    left, _, right = np.linalg.svd((after - after.mean(0)).T @ (before - before.mean(0)))
    return float(np.degrees(np.linalg.norm(vector(left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right))))


def test_heads_are_the_linear_formula_turned_and_moved(small, arrays):
    parameters = random_parameters(small, 3)
    shaped = arrays["neutral"] + np.tensordot(parameters.identity, arrays["identity"], 1)
    shaped = (shaped + np.tensordot(parameters.expression, arrays["expression"], 1))[:, HEAD]
    quarter = np.array([0, np.pi / 2, 0], np.float32)
    parameters = replace(parameters, rotation=np.tile(quarter, (3, 1)))
    # A quarter turn about y carries z to x and x to -z.
    expected = shaped[..., [2, 1, 0]] * [1, 1, -1] + parameters.translation[:, None]
    np.testing.assert_allclose(vertices_of(small, parameters)[:, HEAD], expected, atol=2e-5)


def test_jaw_and_neck_do_nothing(small):
    rest = at_rest(small)
    moved = replace(rest, jaw=rest.jaw + 1, neck=rest.neck + 1)
    np.testing.assert_array_equal(vertices_of(small, moved), vertices_of(small, rest))


@pytest.mark.parametrize("side", SIDES)
def test_eyeballs_look_ahead_whosever_they_are(small, side):
    """The factory's identities move, scale and turn them; the turn is left out, and so is that of the neutral face."""
    vertices = np.asarray(vertices_of(small, at_rest(small)))[0, slice(*RANGES[f"eyeball_{side}"])]
    expected = CENTRES[side] + PERSON @ MOVES + (1 + PERSON @ SCALES) * eyeball()
    np.testing.assert_allclose(vertices, expected, atol=2e-5)


def test_pupils_widen_about_the_axis_that_looks_ahead(small):
    basis = small.expression_basis[2, slice(*RANGES["eyeball_right"])]
    np.testing.assert_allclose(basis, DILATION * eyeball(), atol=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (20, 0), (0, 15), (-25, -10)])
def test_gaze_turns_the_iris_about_the_eyeball_s_centre(small, yaw, pitch):
    """Yaw to the picture's right, pitch upwards, for any person and any pose of the head."""
    head = from_angles(30, -5, 10)
    look = from_angles(yaw, pitch, 0)
    parameters = replace(
        at_rest(small),
        eyes=np.tile(vector(look), (1, 2, 1)).astype(np.float32),
        rotation=vector(head)[None].astype(np.float32),
        translation=np.array([[1, 2, -50]], np.float32),
    )
    irises = np.asarray(small.landmarks.points(vertices_of(small, parameters)))[0, IRISES]
    right_and_up = [np.sin(np.radians(yaw)) * np.cos(np.radians(pitch)), np.sin(np.radians(pitch))]
    direction = np.array([*right_and_up, np.cos(np.radians(yaw)) * np.cos(np.radians(pitch))])
    for iris, side in zip(irises, SIDES, strict=True):
        local = CENTRES[side] + PERSON @ MOVES + (1 + PERSON @ SCALES) * RADIUS * direction
        np.testing.assert_allclose(iris, head @ local + [1, 2, -50], atol=5e-5)


def test_one_eye_turns_alone(small):
    rest = at_rest(small)
    eyes = rest.eyes.copy()
    eyes[0, 1, 1] = 0.4
    moves = np.asarray(vertices_of(small, replace(rest, eyes=eyes)) - vertices_of(small, rest))[0]
    moved = np.abs(moves).max(axis=-1) > 1e-3
    left = np.zeros(len(moved), bool)
    left[slice(*RANGES["eyeball_left"])] = True
    assert moved[left].any() and not moved[~left].any()


def test_iris_cosines_are_angles_to_the_optical_axis(small):
    assert (small.iris_cosine[HEAD] == -1).all()
    away = eyeball()
    for side in SIDES:
        found = small.iris_cosine[slice(*RANGES[f"eyeball_{side}"])]
        np.testing.assert_allclose(found, away[:, 2] / np.linalg.norm(away, axis=1), atol=1e-5)


def test_parts_are_named_and_irises_behind_corneas_left_out(small):
    kept = {"face": "skin", "head_and_neck": "skin", "mouth_socket": "inside", "eye_socket_right": "inside"}
    kept |= {"gums_and_tongue": "inside", "teeth": "teeth", "eyeball_left": "left_eye", "eyeball_right": "right_eye"}
    for name, part in kept.items():
        start, stop = RANGES[name]
        stop -= 12 * name.startswith("eyeball")
        own = (small.triangles >= RANGES[name][0]).all(1) & (small.triangles < RANGES[name][1]).all(1)
        assert (small.parts[own] == PART_INDEX[part]).all()
        assert {*small.triangles[own].ravel().tolist()} == {*range(start, stop)}
    assert small.triangles.dtype == np.int32 and small.parts.dtype == np.uint8


def test_channels_have_sides_as_arkit_s(small):
    assert small.channels == ("jawOpen", "eyeBlinkLeft", "PupilDilateRight")


def test_restricted_is_points_on_the_whole(small):
    eye = RANGES["eyeball_right"][0]
    corners = np.array([[100, 3, 0], [3, 7, 11], [eye, eye + 1, eye + 4]], np.int32)
    points = Embedding(corners, np.array([[1, 0, 0], [0.2, 0.3, 0.5], [0.1, 0.5, 0.4]], np.float32))
    parameters = random_parameters(small, 2)
    found = small.restricted(points)
    # float32 sums in another order, of numbers around 10.
    expected = points.points(vertices_of(small, parameters))
    np.testing.assert_allclose(vertices_of(found, parameters), expected, atol=2e-5)
    assert len(found.triangles) == len(found.landmarks) == 0


def test_points_between_head_and_eyeball_are_refused(small):
    points = Embedding(np.array([[0, 1, RANGES["eyeball_right"][0]]], np.int32), np.full((1, 3), 1 / 3, np.float32))
    with pytest.raises(ValueError, match="between parts"):
        small.restricted(points)


def test_jit_and_vmap_change_nothing(small):
    parameters = random_parameters(small, 3)
    expected = small.vertices(parameters)
    # float32 sums in another order, of numbers around 10.
    np.testing.assert_allclose(vertices_of(small, parameters), expected, atol=2e-5)
    each = jax.tree.map(lambda a: a[:, None], replace(parameters, identity=None))
    one = jax.vmap(lambda p: vertices_of(small, replace(p, identity=parameters.identity)))(each)
    np.testing.assert_allclose(one[:, 0], expected, atol=2e-5)


def test_gradients_at_rest_are_those_of_the_formula(small, arrays):
    rest = at_rest(small, identity=jnp.zeros(4))
    gradient = jax.jit(jax.grad(lambda p: small.vertices(p)[0, 7, 1]))(jax.tree.map(jnp.asarray, rest))
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(gradient))
    np.testing.assert_allclose(gradient.identity, arrays["identity"][:, 7, 1], atol=1e-6)
    x, _, z = arrays["neutral"][7]
    np.testing.assert_allclose(gradient.rotation[0], [-z, 0, x], atol=1e-5)


def test_real_identities_turn_no_eyeball(ict, ict_arrays):
    ranges = dict(zip(ict_arrays["part_names"].tolist(), ict_arrays["part_vertex_ranges"], strict=True))
    ball = slice(*ranges["eyeball_right"])
    source = ict_arrays["neutral"][ball].astype(np.float64)
    # What is to be mended is there: the first identity turns them by 6 degrees for a weight of 3.
    assert turn_between(source, source + 3.0 * ict_arrays["identity"][0, ball]) > 5
    straight = ict.neutral[ball].astype(np.float64)
    assert 4.5 < turn_between(source, straight) < 5.5
    assert max(turn_between(straight, straight + 3.0 * basis[ball]) for basis in ict.identity_basis) < 0.01


def test_real_expressions_turn_no_eyeball(ict):
    """`PupilDilate` alone moves them, by rings of the irises behind the corneas."""
    for side in (0, 1):
        ball = np.flatnonzero(ict.turned_by == side)
        turns = [turn_between(ict.neutral[ball], ict.neutral[ball] + basis[ball]) for basis in ict.expression_basis]
        assert max(turns) < 0.1


def test_real_landmarks_are_where_multi_pie_has_them(ict):
    points = np.asarray(ict.landmarks.points(vertices_of(ict, at_rest(ict, identity=np.zeros(100, np.float32)))))[0]
    x, y, z = points.T
    assert points.shape == (70, 3)
    # From the subject's right ear, which is at the picture's left, to the left one; the chin is lowest.
    assert (np.diff(x[:17]) > 0).all() and y[:68].argmin() == 8
    assert (np.diff(x[17:27]) > 0).all() and (y[17:27] > y[36:48].max()).all()
    assert z[:68].argmax() == 30 and (np.diff(y[27:31]) < 0).all()
    assert x[36] == x[36:42].min() and x[39] == x[36:42].max() and x[45] == x[42:48].max()
    assert (y[[37, 38, 43, 44]] > y[[41, 40, 47, 46]]).all()
    assert x[48] == x[48:68].min() and x[54] == x[48:68].max() and y[51] > y[62] > y[66] > y[57]
    # Right iris, left iris, each within its eye's opening and before the ball's centre.
    for iris, corners, centre in ((68, (36, 39), ict.eye_centre[0]), (69, (42, 45), ict.eye_centre[1])):
        assert x[corners[0]] < x[iris] < x[corners[1]] and z[iris] - centre[2] > 1.4


def test_real_channels_are_arkit_s(ict):
    sided = ["browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide"]
    sided += [f"eyeLook{way}" for way in ("Down", "In", "Out", "Up")] + ["noseSneer"]
    sided += [f"mouth{what}" for what in ("Dimple", "Frown", "LowerDown", "Press", "Smile", "Stretch", "UpperUp")]
    middle = ["jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker"]
    middle += ["mouthRight", *(f"mouth{what}{lip}" for what in ("Roll", "Shrug") for lip in ("Lower", "Upper"))]
    own = ["PupilDilate", "cheekRaiser"]
    expected = {*middle, *(f"{name}{side}" for name in sided + own for side in ("Left", "Right"))}
    assert {*ict.channels} == expected and len(ict.channels) == 57
