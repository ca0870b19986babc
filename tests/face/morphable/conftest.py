"""The ICT face model, read once for all tests of this folder."""

import numpy as np
import pytest

from svp_jax.face.morphable.ict import ICT, load_ict
from svp_jax.face.morphable.ict_file import FILE


@pytest.fixture(scope="session")
def ict_file(shared):
    return shared / "face_models" / FILE


@pytest.fixture(scope="session")
def ict_arrays(ict_file) -> dict[str, np.ndarray]:
    with np.load(ict_file) as file:
        return dict(file)


@pytest.fixture(scope="session")
def ict(ict_file) -> ICT:
    return load_ict(ict_file)
