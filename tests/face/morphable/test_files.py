"""Which files a face model is made of, as captures remember them."""

from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.face.morphable.files import face_model_files
from svp_jax.manifest import content_sha256


def test_of_a_checkout_only_what_is_read_is_hashed(tmp_path):
    for folder in (".git", "FaceXModel"):
        (tmp_path / folder).mkdir()
    mesh = tmp_path / "FaceXModel" / "generic_neutral_mesh.obj"
    mesh.write_text("v 0 0 0")

    def hashes() -> list[str]:
        return [content_sha256(path) for path in face_model_files("ict", tmp_path)]

    before = hashes()
    (tmp_path / ".git" / "index").write_text("changed by git status")
    assert hashes() == before and len(before) == 1
    mesh.write_text("v 0 0 1")
    assert hashes() != before
    assert face_model_files("ict", mesh) == [mesh]


def test_flame_s_embedding_is_a_part_of_it(tmp_path):
    path = write_smplx(tmp_path, random_flame(identity=100, expression=50), random_embeddings())
    names = [file.name for file in face_model_files("flame", path)]
    assert names == ["FLAME_NEUTRAL.pkl", "flame_static_embedding.pkl", "flame_dynamic_embedding.npy"]
    # Where both are there, DECA's alone is read.
    (tmp_path / "landmark_embedding.npy").touch()
    assert [file.name for file in face_model_files("flame", path)] == ["FLAME_NEUTRAL.pkl", "landmark_embedding.npy"]
