import numpy as np
import pytest

from svp_jax.errors import UserError
from svp_jax.face.canonical_mesh import canonical_face


def test_the_canonical_face_is_read(shared):
    points = canonical_face(shared / "models" / "face_landmarker.task")
    assert points.shape == (468, 3) and points.dtype == np.float32
    # Symmetric, in centimetres: outer corners of the eyes, nose tip in front.
    np.testing.assert_allclose(points[33] * [-1, 1, 1], points[263], atol=1e-4)
    assert 8 < points[263, 0] - points[33, 0] < 10
    assert points[:, 2].argmax() in (1, 4)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "face_landmarker.task"
    path.write_bytes(b"not a bundle")
    with pytest.raises(UserError, match="canonical face mesh"):
        canonical_face(path)
