"""Where arrays and rows of batches lie; on one device, and as they would on more."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh

from svp_jax.errors import UserError
from svp_jax.training.step import devices as module
from svp_jax.training.step.devices import AXIS, Devices, check_batches, find_devices


def of(count: int, shared_out: bool) -> Devices:
    """So many devices that need not exist."""
    return Devices(AbstractMesh((count,), (AXIS,)), shared_out)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 3, 320, 640), 3),
        ((3, 3, 640, 320), 2),
        ((320, 320), 0),
        ((77, 768), 1),
        ((3, 3, 9, 1024), 3),
        ((1280,), None),  # small
        ((3, 3, 101, 103), None),  # divides by nothing
    ],
)
def test_the_longest_axis_that_divides_is_shared_out(shape, axis):
    devices = of(4, True)
    assert devices.split_axis(shape) == axis
    assert of(4, False).split_axis(shape) is None
    assert devices.sharding_of(shape).spec == jax.sharding.PartitionSpec(
        *(() if axis is None else (AXIS if n == axis else None for n in range(len(shape))))
    )
    part = np.array(devices.sharding_of(shape).shard_shape(shape))
    assert np.prod(part) * (1 if axis is None else 4) == np.prod(shape)


@dataclass(frozen=True)
class Far:
    """A device of a process."""

    process_index: int


@pytest.mark.parametrize("process", [0, 1])
def test_each_process_has_the_rows_of_its_own_devices(monkeypatch, process):
    monkeypatch.setattr(jax, "process_index", lambda: process)

    class Four:
        devices = np.array([Far(0), Far(0), Far(1), Far(1)])
        size = 4

    rows = Devices(Four, False).rows(batch_size=16, accumulation=2)
    assert rows.shape == (2, 2, 2)
    assert rows.tolist() == [[[[0, 1], [2, 3]], [[8, 9], [10, 11]]], [[[4, 5], [6, 7]], [[12, 13], [14, 15]]]][process]


def test_placed_arrays_share_no_memory_with_their_originals(monkeypatch):
    devices = Devices.of("pmap")
    for original in (np.arange(6.0), jax.numpy.arange(6.0)):
        placed = devices.place({"x": original})["x"]
        jax.jit(lambda x: x + 1, donate_argnums=0)(placed)
        assert np.asarray(original).tolist() == list(range(6))


def test_batches_that_do_not_divide():
    check_batches({"batch_size": (8, 2), "vae.batch_size": (4, 1)}, 4)
    with pytest.raises(UserError, match=r"^config: batch_size is 6, but there are 4 devices; use a multiple of 4$"):
        check_batches({"batch_size": (6, 1)}, 4)
    message = r"4 devices x 2 accumulated parts; use a multiple of 8; vae\.batch_size is 2, but there are 4 devices"
    with pytest.raises(UserError, match=message):
        check_batches({"batch_size": (12, 2), "vae.batch_size": (2, 1)}, 4)


def test_a_kind_of_device_that_is_not_there():
    assert find_devices("any") == find_devices("cpu") == jax.devices()
    with pytest.raises(UserError, match=r"device is gpu, but JAX has none: it found 1 x cpu; install.*--device any"):
        find_devices("gpu")


def test_small_arrays_and_vectors_are_not_shared_out():
    at = module.SMALLEST_SHARED_OUT
    assert of(2, True).split_axis((at, 1)) == 0
    assert of(2, True).split_axis((at - 2, 1)) is None and of(2, True).split_axis((at,)) is None
    assert isinstance(Devices.of("fsdp").mesh, Mesh) and Devices.of("fsdp").shared_out
