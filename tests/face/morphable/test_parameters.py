from dataclasses import replace

import jax
import numpy as np
import pytest

from svp_jax.errors import UserError
from svp_jax.face.morphable.parameters import PER_FRAME, FaceParameters, check_finite, neutral

SHAPES = {
    "identity": (2,),
    "expression": (4, 3),
    "jaw": (4, 3),
    "neck": (4, 3),
    "eyes": (4, 2, 3),
    "rotation": (4, 3),
    "translation": (4, 3),
}


@pytest.fixture
def parameters():
    """Of 4 frames, all numbers different."""
    numbers = iter(np.arange(1000, dtype=np.float32))
    return FaceParameters(
        **{name: np.fromiter(numbers, np.float32, np.prod(s)).reshape(s) for name, s in SHAPES.items()}
    )


def test_neutral_is_zeros():
    rest = neutral(2, 3, frames=4)
    assert {name: array.shape for name, array in rest.arrays().items()} == SHAPES
    assert all((array == 0).all() and array.dtype == np.float32 for array in rest.arrays().values())
    assert len(rest) == 4 and len(neutral(2, 3)) == 1


def test_frames_are_of_the_same_person(parameters):
    for chosen in (np.array([3, 0, 0]), slice(1, 3), np.array([True, False, False, True])):
        found = parameters.frames(chosen)
        np.testing.assert_array_equal(found.identity, parameters.identity)
        for name in PER_FRAME:
            np.testing.assert_array_equal(getattr(found, name), getattr(parameters, name)[chosen], name)
    assert len(parameters.frames(np.array([3, 0, 0]))) == 3
    assert "identity" not in PER_FRAME and {*PER_FRAME} < {*SHAPES}


def test_arrays_are_named_and_float32(parameters):
    wide = jax.tree.map(lambda array: array.astype(np.float64), parameters)
    found = wide.arrays()
    assert [*found] == [*SHAPES] and all(array.dtype == np.float32 for array in found.values())
    again = FaceParameters(**found)
    jax.tree.map(np.testing.assert_array_equal, again, parameters)


def test_finite_numbers_pass(parameters):
    check_finite(parameters, "face.npz")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", PER_FRAME)
def test_the_first_frame_that_is_not_finite_is_named(parameters, name, bad):
    array = getattr(parameters, name).copy()
    array[2, ..., -1] = array[3] = bad
    with pytest.raises(UserError) as caught:
        check_finite(replace(parameters, **{name: array}), "face.npz")
    expected = f"face.npz: {name} is not a finite number in frame 2; make the file again or leave it out"
    assert str(caught.value) == expected


def test_an_identity_that_is_not_finite_has_no_frame(parameters):
    identity = np.array([1, np.nan], np.float32)
    with pytest.raises(UserError, match=r"^face\.npz: identity is not a finite number at \[1\]; make the file again"):
        check_finite(replace(parameters, identity=identity), "face.npz")
