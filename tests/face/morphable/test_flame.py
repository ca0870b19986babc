"""FLAME against smplx, on a file of the same layout with random numbers in it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.errors import UserError
from svp_jax.face.morphable.embedding import Embedding
from svp_jax.face.morphable.flame import EYES, Flame, load_flame
from svp_jax.face.morphable.flame_landmarks import contour_points
from svp_jax.face.morphable.model import PART_INDEX
from svp_jax.face.morphable.parameters import FaceParameters, neutral
from svp_jax.face.morphable.rotation import matrix
from svp_jax.face.rasterizer import faces_viewer

torch = pytest.importorskip("torch", reason="FLAME is tested against smplx, on PyTorch; install the [dev] extra")
smplx = pytest.importorskip("smplx", reason="FLAME is tested against smplx; install the [dev] extra")

HEAD = 0.25  # metres
FRAMES = 3
vertices_of = jax.jit(Flame.vertices)


@pytest.fixture(scope="module")
def arrays():
    return random_flame()


@pytest.fixture(scope="module")
def model_file(arrays, tmp_path_factory):
    return write_smplx(tmp_path_factory.mktemp("flame"), arrays, random_embeddings())


@pytest.fixture(scope="module")
def flame(model_file) -> Flame:
    return load_flame(model_file, identity_size=300, expression_size=100)


@pytest.fixture(scope="module")
def reference(model_file):
    return smplx.FLAME(
        str(model_file.parent), num_betas=300, num_expression_coeffs=100, use_face_contour=True, batch_size=FRAMES
    )


def parameters(flame: Flame, seed: int = 0, frames: int = FRAMES) -> FaceParameters:
    rng = np.random.default_rng(seed)

    def normal(scale: float, *shape) -> jax.Array:
        return jnp.asarray(rng.normal(0, scale, shape), jnp.float32)

    return FaceParameters(
        identity=normal(1, flame.identity_size),
        expression=normal(1, frames, len(flame.channels)),
        jaw=normal(0.3, frames, 3),
        neck=normal(0.3, frames, 3),
        eyes=normal(0.3, frames, 2, 3),
        rotation=normal(0.5, frames, 3),
        translation=normal(0.5, frames, 3),
    )


def run(reference, given: FaceParameters):
    """smplx's output and the tensors that were given to it, by our names."""
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in given.arrays().items()}
    output = reference(
        betas=tensors["identity"][None].expand(len(given), -1),
        expression=tensors["expression"],
        global_orient=tensors["rotation"],
        neck_pose=tensors["neck"],
        jaw_pose=tensors["jaw"],
        leye_pose=tensors["eyes"][:, 1],
        reye_pose=tensors["eyes"][:, 0],
        transl=tensors["translation"],
    )
    return output, tensors


def test_vertices_and_landmarks_are_smplx_s(flame, reference):
    given = parameters(flame)
    # A turned neck does not count for the contour in smplx's FLAME; see the test of contours.
    given = dataclasses.replace(given, neck=jnp.zeros_like(given.neck))
    with torch.no_grad():
        output, _ = run(reference, given)
    vertices = vertices_of(flame, given)
    assert np.abs(vertices - output.vertices.numpy()).max() < 1e-5 * HEAD
    # smplx gives five joints, the inner face and the contour.
    inner, contour = output.joints[:, 5:56].numpy(), output.joints[:, 56:].numpy()
    assert np.abs(flame.landmarks.points(vertices)[:, 17:68] - inner).max() < 1e-5 * HEAD
    assert np.abs(flame.contour(given) - contour).max() < 1e-5 * HEAD
    assert len(flame.landmarks) == 70


def test_a_turned_neck(flame, reference):
    given = parameters(flame, seed=1)
    with torch.no_grad():
        output, _ = run(reference, given)
    assert np.abs(vertices_of(flame, given) - output.vertices.numpy()).max() < 1e-5 * HEAD


def test_gradients_are_smplx_s(flame, reference):
    given = parameters(flame, seed=2)
    weights = np.random.default_rng(3).normal(size=(FRAMES, 5023, 3)).astype(np.float32)
    with torch.enable_grad():
        output, tensors = run(reference, given)
        (output.vertices * torch.from_numpy(weights)).sum().backward()
    ours = jax.jit(jax.grad(lambda given: (vertices_of(flame, given) * weights).sum()))(given).arrays()
    for name, tensor in tensors.items():
        scale = np.abs(tensor.grad.numpy()).max()
        assert np.abs(ours[name] - tensor.grad.numpy()).max() < 1e-4 * scale, name


def test_contours_by_yaw(flame, reference):
    """Every row of the table, and beyond its ends, for a head that turns by root and neck."""
    yaw = np.radians(np.linspace(-60, 60, 60)).astype(np.float32)
    root, neck = np.zeros((2, 60, 3), np.float32)
    root[:, 1], neck[:, 1] = 0.6 * yaw, 0.4 * yaw
    root[:, 0] = 0.2
    vertices = np.broadcast_to(flame.template, (60, 5023, 3))
    found = contour_points(flame.embedding.contours, vertices, matrix(root) @ matrix(neck))
    faces, weights = smplx.lbs.find_dynamic_lmk_idx_and_bcoords(
        torch.tensor(vertices),
        torch.tensor(np.concatenate([root, neck], 1)),
        reference.dynamic_lmk_faces_idx,
        reference.dynamic_lmk_bary_coords,
        torch.tensor([1, 0]),
    )
    expected = smplx.lbs.vertices2landmarks(torch.tensor(vertices), reference.faces_tensor, faces, weights)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_jit_and_vmap(flame):
    """The model is an argument of jitted functions, with its landmarks; frames may be mapped over."""
    given = parameters(flame)
    expected = vertices_of(flame, given)
    points = jax.jit(lambda model, vertices: model.landmarks.points(vertices))(flame, expected)
    np.testing.assert_allclose(points, flame.landmarks.points(expected), atol=1e-7)
    np.testing.assert_allclose(flame.vertices(given), expected, atol=1e-6)
    frames = [given.frames(slice(index, index + 1)) for index in range(FRAMES)]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *frames)
    np.testing.assert_allclose(jax.jit(jax.vmap(flame.vertices))(stacked)[:, 0], expected, atol=1e-6)


def test_restricted_is_a_part_of_the_whole(flame):
    given = parameters(flame)
    rng = np.random.default_rng(0)
    # Corners from all over the model: each moves with joints of its own.
    points = Embedding(rng.integers(0, 5023, (200, 3)), rng.dirichlet(np.ones(3), 200).astype(np.float32))
    small = flame.restricted(points)
    np.testing.assert_allclose(vertices_of(small, given), points.points(vertices_of(flame, given)), atol=1e-6)
    assert small.triangles is None and small.identity_size == 300


def test_sizes(model_file, arrays):
    flame = load_flame(model_file)
    assert flame.identity_size == 100 and len(flame.channels) == 50 and flame.channels[3] == "expression_3"
    # The same person, with what is left out at 0.
    small = parameters(flame)
    wide = dataclasses.replace(
        small, identity=np.pad(small.identity, (0, 200)), expression=np.pad(small.expression, ((0, 0), (0, 50)))
    )
    whole = load_flame(model_file, identity_size=1000, expression_size=1000)
    assert (whole.identity_size, len(whole.channels)) == (300, 100)
    np.testing.assert_allclose(vertices_of(flame, small), vertices_of(whole, wide), atol=1e-6)
    cut = whole.sized(small)
    assert (cut.identity_size, cut.channels) == (flame.identity_size, flame.channels)
    np.testing.assert_allclose(vertices_of(cut, small), vertices_of(flame, small), atol=1e-6)
    with pytest.raises(UserError, match="identity_size 0: allowed are 1 or more"):
        load_flame(model_file, identity_size=0)


def test_parts_and_irises(flame, arrays):
    triangles = arrays["f"].astype(int)
    for eye, vertices in EYES.items():
        own = (triangles >= vertices.start).all(1) & (triangles < vertices.stop).all(1)
        np.testing.assert_array_equal(flame.parts == PART_INDEX[eye], own)
        # The vertex in front, as the file was made.
        assert np.argmax(flame.iris_cosine[vertices]) == 120
        assert flame.iris_cosine[vertices].min() == pytest.approx(-1, abs=1e-6)
    assert (flame.parts == PART_INDEX["skin"]).sum() == 8000 and (flame.iris_cosine[:3931] == -1).all()
    np.testing.assert_array_equal(flame.landmarks.corners[68:, 0], [4477 + 120, 3931 + 120])


def test_eyes_are_right_and_left(flame):
    """The first eye is the subject's right one, at the picture's left; about -x it looks up."""
    still = neutral(flame.identity_size, len(flame.channels))
    turned = dataclasses.replace(still, eyes=np.float32([[[-0.3, 0, 0], [0, 0, 0]]]))
    rest, moved = (vertices_of(dataclasses.replace(flame, pose=flame.pose * 0), given)[0] for given in (still, turned))
    right, left = flame.landmarks.corners[68:, 0]
    assert rest[right, 0] < 0 < rest[left, 0]
    np.testing.assert_array_equal(moved[EYES["left_eye"]], rest[EYES["left_eye"]])
    # The eyeball's radius is 13.5 mm.
    np.testing.assert_allclose(
        moved[right] - rest[right], 0.0135 * np.array([0, np.sin(0.3), np.cos(0.3) - 1]), atol=1e-6
    )


def test_winding_is_the_file_s(flame):
    """Counter-clockwise in space with y up is what `faces_viewer` calls facing, once y points down."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    assert faces_viewer(points * [1, -1, 1], np.array([[0, 1, 2]])).all()
    assert flame.triangles.dtype == np.int32 and flame.triangles.shape == (9976, 3)


def test_landmarks_that_are_missing(model_file, tmp_path, arrays):
    (tmp_path / "flame2023.pkl").write_bytes(model_file.read_bytes())
    flame = load_flame(tmp_path / "flame2023.pkl")
    with pytest.raises(UserError, match=r"FLAME's landmarks are not in .*; put landmark_embedding\.npy"):
        _ = flame.landmarks
    assert load_flame(tmp_path / "flame2023.pkl", landmarks=model_file.parent).landmarks is not None


@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_deca_s_embedding(flame, arrays, model_file, tmp_path, tensors):
    """DECA's file holds the dynamic part as PyTorch tensors; the points are those of smplx's two files."""
    embedding = random_embeddings()
    if tensors:
        embedding |= {name: torch.tensor(value) for name, value in embedding.items() if name.startswith("dynamic")}
    np.save(tmp_path / "landmark_embedding.npy", embedding)
    found = load_flame(model_file, landmarks=tmp_path).embedding
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(flame.embedding), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    only_full = {name: value for name, value in random_embeddings().items() if name.startswith("full")}
    np.save(tmp_path / "landmark_embedding.npy", only_full)
    full = load_flame(model_file, landmarks=tmp_path / "landmark_embedding.npy")
    expected = arrays["f"][only_full["full_lmk_faces_idx"][0]]
    np.testing.assert_array_equal(full.landmarks.corners[:68], expected)
    with pytest.raises(UserError, match="has no contours by yaw"):
        full.contour(parameters(full))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"static_lmk_faces_idx": np.full(51, 9976)}, "names triangles beyond the model's 9976"),
        ({"static_lmk_faces_idx": np.zeros(50, int)}, "has not 3 numbers for each of the 50"),
        ({"dynamic_lmk_faces_idx": np.zeros((78, 17), int)}, "has not 3 numbers"),
        ({"static_lmk_bary_coords": np.full((51, 3), np.nan)}, "not finite"),
        ({"static_lmk_faces_idx": ["a"]}, "no array of numbers"),
        (None, "lacks full_lmk_faces_idx"),
    ],
)
def test_embeddings_that_do_not_fit(model_file, tmp_path, change, message):
    np.save(tmp_path / "landmark_embedding.npy", {} if change is None else random_embeddings() | change)
    with pytest.raises(UserError, match=message) as caught:
        load_flame(model_file, landmarks=tmp_path)
    assert "\n" not in str(caught.value) and "landmark_embedding.npy" in str(caught.value)


def test_smplx_s_second_file_is_named(model_file, tmp_path):
    (tmp_path / "flame_static_embedding.pkl").write_bytes(
        (model_file.parent / "flame_static_embedding.pkl").read_bytes()
    )
    with pytest.raises(UserError, match=r"no jawline without .*flame_dynamic_embedding\.npy; put that file beside it"):
        load_flame(model_file, landmarks=tmp_path)
