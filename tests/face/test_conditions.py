import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.face.conditions import (
    OUTLINES_WINDOW,
    condition_spec,
    degrade_parsing,
    details_condition,
    outlines_condition,
    window_indices,
)


@given(st.lists(st.integers(-1, 2), min_size=1, max_size=12), st.integers(1, 4))
def test_window_never_leaves_the_shot(shots, window):
    indices = window_indices(np.array(shots), window)
    for frame, row in enumerate(indices):
        first = frame
        while first > 0 and shots[first - 1] == shots[frame]:
            first -= 1
        assert row.tolist() == [max(first, frame - back) for back in range(window - 1, -1, -1)]


def test_outlines_stack_oldest_first():
    geometry = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    stacked = outlines_condition(geometry, np.array([0, 0, 0, 1]), 3)
    assert stacked.shape == (4, 2, 2, 9)
    assert stacked[2, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert stacked[3, 0, 0].tolist() == [3] * 9
    assert condition_spec(3)["outlines"]["channels"] == stacked.shape[-1]


def test_details_order_is_the_recorded_one():
    parts = {"parsing": 1, "geometry": 2, "iris": 3}
    images = {name: np.full((1, 2, 2, 3), value, np.uint8) for name, value in parts.items()}
    stacked = details_condition(images["parsing"], images["geometry"], images["iris"])
    order = condition_spec(OUTLINES_WINDOW)["details"]["order"]
    assert stacked[0, 0, 0].tolist() == [parts[name] for name in order for _ in range(3)]


def test_degradation_is_seeded_small_and_not_nothing():
    parsing = np.zeros((64, 64, 3), np.uint8)
    parsing[20:44, 20:44] = (255, 225, 180)
    changed = [degrade_parsing(np.random.default_rng(seed), parsing) for seed in (0, 0, 1)]
    assert (changed[0] == changed[1]).all()
    assert (changed[0] != changed[2]).any()
    for image in changed:
        assert (image != parsing).any()
        # A shift of 1/4 pixel and a blur of sigma 1.2 reach at most 7 pixels over an edge.
        assert (image[:13] == 0).all() and (image[27:37, 27:37] == parsing[27:37, 27:37]).all()


@pytest.mark.parametrize("seed", range(5))
def test_degradation_moves_by_a_256th_of_the_width_at_most(seed):
    parsing = np.zeros((512, 512, 3), np.uint8)
    parsing[254:258, 254:258] = 255
    image = degrade_parsing(np.random.default_rng(seed), parsing)[..., 0].astype(float)
    rows, columns = np.indices(image.shape)
    middle = np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()
    assert (np.abs(middle - 255.5) <= 2.05).all()
