"""Runs that go on on other devices or in the other mode, and modes together with all that makes a state smaller."""

import json

import numpy as np
import other_devices_run
import programs
import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with programs.killed_at_the_end() as start:
        ((line, said),) = programs.finish(start(other_devices_run, tmp_path_factory.mktemp("runs"), devices=4))
    # The other two were interrupted once and twice before.
    assert said.count("goes on from step 4") == 2 and said.count("goes on from step 8") == 1
    return json.loads(line)


def test_from_four_devices_to_one_to_two_and_to_the_other_mode(found):
    # Adam makes steps of one size of gradients of any: sums in another order count where one is next to nothing.
    np.testing.assert_allclose(found["moved"], found["untroubled"], atol=1e-5)
    np.testing.assert_allclose(found["from shared"], found["untroubled"], atol=1e-5)
    # It has come somewhere: a rate of 0.01 for 12 steps.
    first = other_devices_run.Network().layer.kernel[...].ravel()
    assert np.std(np.subtract(found["untroubled"], first)) > 1e-2


def test_fsdp_with_a_moving_average_moments_in_bfloat16_parts_of_a_batch_and_remat(found):
    for parallel in ("pmap", "fsdp"):
        # Where a sum in another order ends on the other side of a random rounding, a moment is 1/256 larger: of the
        # few thousandths that twelve steps of rate 0.01 have moved a number.
        difference = np.abs(np.subtract(found[parallel], found["alone"]))
        assert difference.max() < 5e-4 and np.median(difference) < 1e-6, parallel


def test_a_device_holds_a_quarter_of_what_is_shared_out(found):
    """All arrays on the last of four devices: parameters, average and two moments, whole or a quarter of each."""
    numbers = other_devices_run.WIDTH**2
    for parallel, share in (("pmap", 1.0), ("fsdp", 0.25)):
        state = share * numbers * (4 + 4 + 2 + 2)
        # Besides, biases and batches.
        assert all(state <= held < 1.02 * state + 2**16 for held in found["held"][parallel]), parallel
