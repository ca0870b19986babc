"""One tiny avatar, and the capture that it says it was trained on."""

import pytest
from factories import make_avatar, make_base, make_capture

from svp_jax.manifest import body_of, read_manifest, write_manifest


@pytest.fixture(scope="session")
def capture_folder(tmp_path_factory):
    """25 frames, of which 20 to 24 are held out; 22 has no face."""
    return make_capture(tmp_path_factory.mktemp("capture") / "capture", 25, without_face=(22,))


@pytest.fixture(scope="session")
def avatar_folder(capture_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    avatar = make_avatar(folder / "avatar", make_base(folder / "base"), temporal=(0.7, 0.3, 1.0, 1.0))
    body = body_of(read_manifest(avatar, "avatar"))
    sha256 = read_manifest(capture_folder, "capture")["manifest_sha256"]
    body["captures"] = [body["captures"][0] | {"path": str(capture_folder), "manifest_sha256": sha256}]
    write_manifest(avatar, "avatar", body)
    return avatar
