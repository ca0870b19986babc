"""One tiny base, avatar and driver for the tests of this folder."""

import warnings

import pytest
from factories import make_avatar, make_base, make_capture


@pytest.fixture
def quiet():
    """Without the warning of the driver's gaps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* frames of .* have no face")
        yield


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="session")
def avatar_folder(base_folder, tmp_path_factory):
    return make_avatar(tmp_path_factory.mktemp("avatar") / "avatar", base_folder)


@pytest.fixture(scope="session")
def driver_folder(tmp_path_factory):
    """12 frames at 29.97 frames/s with sound; 0, 5, 6 and 11 have no face, a cut is before 9."""
    return make_capture(
        tmp_path_factory.mktemp("driver") / "driver",
        12,
        without_face=(0, 5, 6, 11),
        cuts=(9,),
        frame_rate="30000/1001",
        audio=True,
    )
