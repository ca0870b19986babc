"""Small parameters as one vector, and back."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_jax.training.step import packing as module
from svp_jax.training.step.packing import PACKED, Packing

SHAPES = st.lists(st.lists(st.integers(1, 30), min_size=0, max_size=3).map(tuple), min_size=1, max_size=6)


# Each call compiles what sums the norms up.
@settings(deadline=None, max_examples=10)
@given(SHAPES, st.integers(0, 99))
def test_what_is_packed_comes_back(shapes, seed):
    rng = np.random.default_rng(seed)
    flat = {str(n): rng.standard_normal(shape).astype(np.float32) for n, shape in enumerate(shapes)}
    packing = Packing.of(flat)
    packed = packing.pack(flat)
    assert all(x.size >= module.SMALL for name, x in packed.items() if name != PACKED)
    back = packing.unpack(packed)
    assert back.keys() == flat.keys() == set(packing.names)
    for name, x in flat.items():
        np.testing.assert_array_equal(back[name], x)
    norms = dict(zip(packing.names, np.asarray(packing.norms(packed)), strict=True))
    np.testing.assert_allclose([norms[name] for name in flat], [np.linalg.norm(x) for x in flat.values()], rtol=1e-5)


def test_each_number_of_the_vector_has_its_own_rate():
    flat = {"a": np.zeros((2, 3)), "large": np.zeros((128, 128)), "b": np.zeros(2)}
    rates = Packing.of(flat).rates({"a": 1.0, "large": 0.5, "b": 0.25})
    assert rates["large"] == 0.5
    np.testing.assert_array_equal(rates[PACKED], [1.0] * 6 + [0.25] * 2)


def test_gradients_go_through():
    flat = {"a": np.float32([1, 2]), "b": np.float32([[3.0]])}
    packing = Packing.of(flat)

    def loss(packed):
        back = packing.unpack(packed)
        return back["a"].sum() * 2 + back["b"].sum() * 5

    np.testing.assert_array_equal(jax.grad(loss)(packing.pack(flat))[PACKED], [2, 2, 5])
