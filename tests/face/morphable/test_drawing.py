"""The condition images of posed face models: what is where, in which colour, and what is not."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from svp_jax.face.canonical_mesh import canonical_face
from svp_jax.face.mediapipe_mesh import LEFT_EYE, RIGHT_EYE
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.drawing import condition_images
from svp_jax.face.morphable.mediapipe import MediaPipeFace, build_mediapipe
from svp_jax.face.morphable.model import PART_INDEX, FaceModel
from svp_jax.face.morphable.multi_pie import NOSE
from svp_jax.face.morphable.parameters import neutral
from svp_jax.face.rasterizer import vertex_normals

DISTANCE = {"ict": 60, "mediapipe": 6}  # Of the camera, in the models' units: a head fills half the picture.
# From the eyeball's centre to the middle of the iris, in the models' units.
RADIUS = {"ict": 1.655, "mediapipe": 0.135}

vertices_of = jax.jit(lambda model, parameters: model.vertices(parameters))


@pytest.fixture(scope="module")
def person(shared) -> MediaPipeFace:
    """The canonical face with irises in the middle of its eyes."""
    canonical = canonical_face(shared / "models" / "face_landmarker.task")
    ring = 0.6 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    irises = [canonical[list(eye)].mean(axis=0) + ring for eye in (RIGHT_EYE, LEFT_EYE)]
    landmarks = np.concatenate([canonical, *irises]) * [1, -1, -1]
    return build_mediapipe(landmarks[None], np.zeros((1, 1)), ("jawOpen",))


@pytest.fixture(params=["ict", "mediapipe"])
def model(request) -> FaceModel:
    return request.getfixturevalue({"ict": "ict", "mediapipe": "person"}[request.param])


def posed(model: FaceModel, shift=(0, 0, 0), turn=(0, 0, 0), eyes=(0, 0, 0), **channels: float) -> np.ndarray:
    parameters = neutral(model.identity_size, len(model.channels))
    for name, value in channels.items():
        parameters.expression[:, model.channels.index(name)] = value
    parameters.translation[:] = np.array(shift) - [0, 0, DISTANCE[model.name]]
    parameters.rotation[:], parameters.eyes[:] = turn, eyes
    return np.asarray(vertices_of(model, parameters))[0]


def drawn(model: FaceModel, size: int = 128, **pose) -> tuple[np.ndarray, np.ndarray]:
    return condition_images(model, posed(model, **pose), camera_of(size), size)


def camera_of(size: int) -> Camera:
    return Camera(np.float32(2 * size), np.full(2, size / 2, np.float32))


def centre_of(mask: np.ndarray) -> np.ndarray:
    """x and y of the middle of what `mask` [S, S] covers, in pixels."""
    at = np.arange(len(mask)) + 0.5
    return np.array([np.average(at, weights=mask.sum(axis)) for axis in (0, 1)])


def test_the_head_is_before_black(model):
    geometry, iris = drawn(model)
    for image in (geometry, iris):
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    head = geometry.any(axis=-1)
    assert 0.3 < head.mean() < 0.6
    # ICT's crown and neck go on above and below the picture.
    assert not head[:, [0, -1]].any() and not head[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert head[iris.any(axis=-1)].mean() > 0.5
    again = drawn(model)
    np.testing.assert_array_equal(geometry, again[0])
    np.testing.assert_array_equal(iris, again[1])


def test_skin_has_the_colours_of_its_normals(ict):
    size = 512
    points = posed(ict, turn=(0.1, 0.4, -0.2))
    geometry, _ = condition_images(ict, points, camera_of(size), size)
    seen = ict.landmarks.corners[NOSE, 0][:4]  # Of the nose's bridge, which nothing hides.
    normals = vertex_normals(points, ict.triangles)[seen]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    x, y = np.asarray(camera_of(size).project(points[seen]))[:, :2].astype(int).T
    # Colours change by a few levels within a pixel.
    np.testing.assert_allclose(geometry[y, x].astype(int), (normals + 1) * 127.5, atol=6)


def test_red_is_right_green_is_up_blue_is_to_the_viewer(model):
    geometry, iris = drawn(model)
    normals = geometry[geometry.any(axis=-1) & ~iris.any(axis=-1)] / 127.5 - 1
    # Colours are rounded to 1 / 127.5.
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=0.01)
    assert normals[:, 2].max() > 0.99 and normals[:, 2].min() > -0.05

    def bridge(turn=(0, 0, 0)) -> np.ndarray:
        points = posed(model, turn=turn)
        place = camera_of(512).project(model.landmarks.points(points)[NOSE][1])
        x, y = np.asarray(place)[:2].astype(int)
        return condition_images(model, points, camera_of(512), 512)[0][y, x].astype(int)

    # Of unit normals that turn by 0.3 radians, where they look ahead.
    step = 127.5 * np.sin(0.3)
    for turn, channel, sign in (((0, 0.3, 0), 0, 1), ((0, -0.3, 0), 0, -1), ((0.3, 0, 0), 1, -1), ((-0.3, 0, 0), 1, 1)):
        moved = sign * (bridge(turn) - bridge())[channel]
        assert 0.4 * step < moved < 1.5 * step, (turn, moved, step)


@pytest.mark.parametrize("size", [64, 256])
def test_irises_are_where_the_model_has_them(model, size):
    points = posed(model)
    _, iris = condition_images(model, points, camera_of(size), size)
    places = np.asarray(camera_of(size).project(model.landmarks.points(points)))[68:, :2]
    # At 64 pixels an iris has about five; a lid may hide a part, which moves its middle down.
    for channel, place in enumerate(places):
        assert 3 * (size / 64) ** 2 < iris[..., channel].sum() / 255 < 8 * (size / 64) ** 2
        x, y = centre_of(iris[..., channel])
        assert abs(x - place[0]) < 0.15 * size / 64 and abs(y - place[1]) < 0.5 * size / 64
    # The subject's right is the picture's left. Irises are within the openings and differ from the skin.
    assert places[0, 0] < places[1, 0]
    assert (iris[..., 2] >= iris[..., :2].max(axis=-1)).all()
    assert 2 * iris[..., :2].sum() < 2 * iris[..., 2].sum() < 10 * iris[..., :2].sum()


def test_irises_and_sockets_are_black_in_the_geometry(ict):
    geometry, iris = drawn(ict, size=256)
    assert not geometry[iris[..., :2].max(axis=-1) == 255].any()
    mouth = drawn(ict, size=256, jawOpen=1.0, mouthUpperUpLeft=1.0, mouthUpperUpRight=1.0)[0]
    points = posed(ict, jawOpen=1.0, mouthUpperUpLeft=1.0, mouthUpperUpRight=1.0)
    lips = np.asarray(camera_of(256).project(ict.landmarks.points(points)))[[62, 66], :2]
    x, y = (0.3 * lips[0] + 0.7 * lips[1]).astype(int)
    assert not mouth[y - 1 : y + 2, x - 2 : x + 3].any()


def test_teeth_are_seen_in_an_open_mouth_alone(ict):
    without = replace(ict, parts=np.where(ict.parts == PART_INDEX["teeth"], PART_INDEX["inside"], ict.parts))

    def seen(**channels: float) -> np.ndarray:
        points = posed(ict, **channels)
        first, second = (condition_images(m, points, camera_of(256), 256)[0] for m in (ict, without))
        return (first != second).any(axis=-1)

    assert not seen().any()
    teeth = seen(jawOpen=1.0)
    lips = np.asarray(camera_of(256).project(ict.landmarks.points(posed(ict, jawOpen=1.0))))[48:68, :2]
    y, x = np.nonzero(teeth)
    assert teeth.sum() > 20
    assert (x > lips[:, 0].min()).all() and (x < lips[:, 0].max()).all()
    assert (y > lips[:, 1].min()).all() and (y < lips[:, 1].max()).all()


@pytest.mark.parametrize("eyes", [(0, 0.2, 0), (0, -0.2, 0), (0.1, 0, 0), (-0.1, 0, 0)], ids=str)
def test_gaze_moves_the_irises(model, eyes):
    """Positive angles about y turn to the picture's right, about x downwards."""
    size = 512
    before, after = drawn(model, size=size)[1], drawn(model, size=size, eyes=eyes)[1]
    depth = DISTANCE[model.name] - (10 if model.name == "ict" else 0)
    expected = 2 * size * RADIUS[model.name] / depth * np.sin([eyes[1], eyes[0]])
    # Lids hide what of an iris moves below them (a sixth of ICT's sideways move was measured), and most of it upwards.
    horizontal = eyes[1] != 0
    for channel in (0, 1):
        moved = centre_of(after[..., channel]) - centre_of(before[..., channel])
        if horizontal:
            np.testing.assert_allclose(moved, expected, atol=0.25 * np.abs(expected).max())
        else:
            assert 0.05 < moved[1] / expected[1] < 1.1 and abs(moved[0]) < 0.2 * abs(expected[1])


def test_closed_lids_hide_the_irises(ict):
    """ICT's lids leave a slit: 2 % of the iris were measured."""
    opened, closed, left = (
        drawn(ict, size=256, **dict.fromkeys(names, 1.0))[1].sum(axis=(0, 1)) / 255
        for names in ((), ("eyeBlinkLeft", "eyeBlinkRight"), ("eyeBlinkLeft",))
    )
    assert (closed[:2] < 0.04 * opened[:2]).all() and closed[2] < 0.1 * opened[2]
    assert left[0] == opened[0] and left[1] < 0.04 * opened[1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "away", [(0, 0, 2), (0, 0, 1), (50, 0, 0), (0, -50, 0)], ids=["behind", "around the camera", "right", "below"]
)
def test_a_head_that_is_not_in_the_picture_leaves_it_black(model, away):
    geometry, iris = drawn(model, size=64, shift=np.array(away) * DISTANCE[model.name])
    assert not geometry.any() and not iris.any()


@pytest.mark.filterwarnings("error")
def test_a_head_at_the_edge_is_the_part_that_the_picture_holds(model):
    """The camera's centre moves by whole pixels, so the picture does."""
    points, size = posed(model), 128
    whole = condition_images(model, points, camera_of(size), size)
    for x, y in ((40, 0), (-56, 8), (0, -64)):
        camera = Camera(np.float32(2 * size), np.array([size / 2 + x, size / 2 + y], np.float32))
        part = condition_images(model, points, camera, size)
        rows, columns = (slice(max(0, -by), size - max(0, by)) for by in (y, x))
        moved_rows, moved_columns = (slice(max(0, by), size - max(0, -by)) for by in (y, x))
        off = np.abs(part[0][moved_rows, moved_columns].astype(int) - whole[0][rows, columns])
        assert (off > 2).mean() < 2e-3
        off = np.abs(part[1][moved_rows, moved_columns].astype(int) - whole[1][rows, columns])
        assert off.max() < 8
