"""Checkouts of ICT-FaceKit: one written from the repacked model's arrays, and broken ones of random numbers."""

import json
import os

import numpy as np
import pytest

from svp_jax.errors import UserError
from svp_jax.face.morphable import ict_repository
from svp_jax.face.morphable.ict import load_ict
from svp_jax.face.morphable.ict_repository import read_repository

UNLISTED = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")
# Of lacrimal fluid, lashes and their like, which no kept polygon touches.
REST_VERTICES, REST_POLYGONS = 26719 - 24591, 26384 - 24692


def mesh_text(vertices: np.ndarray, polygons: bytes = b"") -> bytes:
    """A file as the repository's: comment, material, vertices, texture coordinates, polygons."""
    rows = ("v %.6f %.6f %.6f\n" * len(vertices)) % tuple(vertices.ravel().tolist())
    rest = b"v 0 0 0\n" * REST_VERTICES + b"vt 0.5 0.5\n" * 3
    return b"# ICT FaceKit\nmtllib ICTFaceModelMaterial.mtl\n" + rows.encode() + rest + b"usemtl M_Face\n" + polygons


def polygon_text(polygons: list[list[int]]) -> bytes:
    lines = [" ".join(f"{corner + 1}/{corner + 7}" for corner in corners) for corners in polygons]
    lines += ["24592/1 24593/1 24594/1 24595/1"] * REST_POLYGONS
    return "".join(f"f {line}\n" for line in lines).encode()


def write_config(folder, names: list[str], landmarks: list[int]) -> None:
    config = {"expressions": names, "incompatibilities": [], "idx_to_landmark_verts": landmarks}
    (folder / "vertex_indices.json").write_text(json.dumps(config))


def test_a_checkout_is_the_repacked_model(ict_arrays, ict, tmp_path, monkeypatch):
    """Three identities and six expressions of it; the repacked file rounds what they add to the neutral to float16."""
    monkeypatch.setattr(ict_repository, "_IDENTITIES", 3)
    names = [str(name) for name in ict_arrays["expression_names"]]
    listed = ["jawOpen", "browDown_L"]
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    write_config(folder, listed, ict_arrays["landmarks68"].tolist())
    numbers, first = np.unique(ict_arrays["face_polygon"], return_index=True)
    sizes = np.bincount(ict_arrays["face_polygon"]) + 2
    faces = ict_arrays["faces"]
    polygons = [faces[at].tolist() + [faces[at + 1, 2]] * (sizes[n] - 3) for n, at in zip(numbers, first, strict=True)]
    neutral = ict_arrays["neutral"].astype(np.float64)
    (folder / "generic_neutral_mesh.obj").write_bytes(mesh_text(neutral, polygon_text(polygons)))
    for number in range(3):
        moved = neutral + ict_arrays["identity"][number]
        (folder / f"identity00{number}.obj").write_bytes(mesh_text(moved))
    places = [names.index(name) for name in (*listed, *UNLISTED)]
    for place in places:
        moved = neutral + ict_arrays["expression"][place]
        (folder / f"{names[place]}.obj").write_bytes(mesh_text(moved))

    found = read_repository(tmp_path)
    for name in ("faces", "face_part", "part_names", "part_vertex_ranges", "landmarks68"):
        np.testing.assert_array_equal(found[name], ict_arrays[name], name)
    for name in ("subpart_names", "subpart_vertex_ranges"):
        np.testing.assert_array_equal(found[name], ict_arrays[name], name)

    model = load_ict(tmp_path)
    assert model.channels == tuple(ict.channels[place] for place in places)
    # Six digits are written, and float32 keeps as many of a coordinate of 20 cm.
    np.testing.assert_allclose(model.neutral, ict.neutral, atol=2e-6)
    np.testing.assert_allclose(model.identity_basis, ict.identity_basis[:3], atol=4e-6)
    np.testing.assert_allclose(model.expression_basis, ict.expression_basis[np.array(places)], atol=4e-6)
    np.testing.assert_allclose(model.eye_centre, ict.eye_centre, atol=1e-5)
    for name in ("triangles", "parts", "turned_by"):
        np.testing.assert_array_equal(getattr(model, name), getattr(ict, name), name)
    np.testing.assert_array_equal(model.landmarks.corners, ict.landmarks.corners)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The folder FaceXModel of a checkout with random vertices, two identities and five expressions."""
    monkeypatch.setattr(ict_repository, "_IDENTITIES", 2)
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    write_config(folder, ["jawOpen"], list(range(68)))
    ends = [(9409, 9230), (11248, 11144), (13294, 13226), (13678, 13630), (14062, 14034), (17039, 17006)]
    ends += [(21451, 21496), (23021, 23094), (24591, 24692)]
    polygons, start, done = [], 0, 0
    for end, last in ends:
        polygons += [[start, start + 1, start + 2 + k % (end - start - 2)] for k in range(last - done)]
        start, done = end, last
    vertices = np.random.default_rng(0).normal(size=(24591, 3))
    (folder / "generic_neutral_mesh.obj").write_bytes(mesh_text(vertices, polygon_text(polygons)))
    (folder / "identity000.obj").write_bytes(mesh_text(vertices + 1))
    for name in ("identity001", "jawOpen", *UNLISTED):
        os.link(folder / "identity000.obj", folder / f"{name}.obj")
    return folder


def refused(folder) -> str:
    with pytest.raises(UserError) as caught:
        read_repository(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    # Not in place: the file may be linked to others.
    path.unlink()
    path.write_bytes(content.replace(old, new, 1))


def test_shapes_of_a_checkout(checkout):
    found = read_repository(checkout.parent)
    assert found["identity"].shape == (2, 24591, 3) and found["identity"].dtype == np.float32
    assert found["expression_names"].tolist() == ["jawOpen", *UNLISTED]
    np.testing.assert_allclose(found["expression"], 1, atol=1e-5)
    # Triangles stay what they are.
    assert found["faces"].shape == (24692, 3) and found["face_part"].tolist().count(8) == 1598


def test_another_folder_and_missing_files(checkout, tmp_path):
    assert "has no FaceXModel/generic_neutral_mesh.obj; give a checkout of github.com" in refused(tmp_path)
    (checkout / "identity001.obj").unlink()
    assert "identity001.obj: cannot be read (No such file or directory); check out" in refused(checkout.parent)
    (checkout / "vertex_indices.json").unlink()
    assert "vertex_indices.json: cannot be read" in refused(checkout.parent)


def test_another_mesh(checkout):
    rewrite(checkout / "cheekRaiser_R.obj", b"v 0 0 0\n", b"")
    message = "cheekRaiser_R.obj: has 26718 vertices, ICT-FaceKit's meshes have 26719"
    assert message in refused(checkout.parent)
    rewrite(checkout / "generic_neutral_mesh.obj", b"\nf ", b"\n# ")
    assert "has 26383 polygons, ICT-FaceKit's meshes have 26384" in refused(checkout.parent)


@pytest.mark.parametrize("broken", [b"v 1 2 x", b"v 1 2", b"v 1 2 nan"], ids=["a word", "two numbers", "nan"])
def test_broken_vertices(checkout, broken):
    path = checkout / "identity000.obj"
    line = path.read_bytes().splitlines()[5]
    rewrite(path, line, broken)
    message = refused(checkout.parent)
    assert "identity000.obj: has vertices that are not three" in message


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (b"f x/1 2/2 3/3\n", "corners are not numbers"),
        (b"f 1/1 2/2\n", "no triangles or quads"),
        (b"f 0/1 2/2 3/3\n", "no triangles or quads"),
        (b"f 1/1 2/2 24592/3\n", "no triangles or quads"),
    ],
)
def test_broken_polygons(checkout, corners, message):
    path = checkout / "generic_neutral_mesh.obj"
    line = next(line for line in path.read_bytes().splitlines(keepends=True) if line.startswith(b"f "))
    rewrite(path, line, corners)
    assert message in refused(checkout.parent)


def test_a_version_with_other_parts(checkout):
    path = checkout / "generic_neutral_mesh.obj"
    line = next(line for line in path.read_bytes().splitlines(keepends=True) if line.startswith(b"f 21452/"))
    rewrite(path, line, b"f 1/1 2/2 3/3\n")
    assert "eyeball_left uses vertices of other parts, so it is another version" in refused(checkout.parent)


def test_git_lfs_pointers(checkout):
    for name in ("jawOpen.obj", "vertex_indices.json", "generic_neutral_mesh.obj"):
        (checkout / name).unlink()
        (checkout / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2555599\n")
        assert "is a Git LFS pointer, not the file itself; run 'git lfs pull'" in refused(checkout.parent)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[", "has no 'expressions' and"),
        ("[]", "has no 'expressions' and"),
        (json.dumps({"expressions": ["jawOpen"]}), "has no 'expressions' and"),
        (json.dumps({"expressions": ["../x"], "idx_to_landmark_verts": list(range(68))}), "no list of names"),
        (json.dumps({"expressions": "jawOpen", "idx_to_landmark_verts": list(range(68))}), "no list of names"),
        (json.dumps({"expressions": ["jawOpen"], "idx_to_landmark_verts": list(range(67))}), "68 vertices below 24591"),
        (json.dumps({"expressions": ["jawOpen"], "idx_to_landmark_verts": [24591] * 68}), "68 vertices below 24591"),
    ],
)
def test_broken_configs(checkout, config, message):
    (checkout / "vertex_indices.json").write_text(config)
    assert message in refused(checkout.parent)
