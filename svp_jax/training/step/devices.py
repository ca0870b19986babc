"""Where a run's arrays lie: all its devices as one mesh of one axis, over one process or several.

The global batch is always shared out. What is trained lies whole on every device ("pmap"), or is itself shared out
("fsdp", fully sharded data parallel; Rajbhandari et al., arXiv 1910.02054, stage 3) for devices that cannot hold it.
Either way an array of the state has the shape of the parameter: only its sharding differs, so that what was trained
in one way, on one number of devices, goes on in the other, on another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from svp_jax.errors import UserError

AXIS = "devices"
# Arrays of fewer numbers lie whole on every device, and so do vectors: their parts would cost more than they save.
SMALLEST_SHARED_OUT = 2**14


@dataclass(frozen=True)
class Devices:
    """The devices of a run.

    Attributes:
        mesh: of one axis, `AXIS`.
        shared_out: whether parameters, gradients and optimizer state are shared out too.
    """

    mesh: Mesh
    shared_out: bool

    @classmethod
    def of(cls, parallel: str, devices: Sequence[jax.Device] | None = None) -> "Devices":
        """The given devices, all of all processes where there are none, for `parallel` "pmap" or "fsdp"."""
        return cls(Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,)), parallel == "fsdp")

    @property
    def count(self) -> int:
        return self.mesh.size

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of what lies whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def split(self) -> NamedSharding:
        """The sharding of arrays [devices, ...] of which every device has its own row."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def split_axis(self, shape: Sequence[int]) -> int | None:
        """The axis along which a parameter of this shape is shared out: the longest that divides; None for none."""
        if not self.shared_out or len(shape) < 2 or math.prod(shape) < SMALLEST_SHARED_OUT:
            return None
        fitting = [axis for axis, length in enumerate(shape) if length % self.count == 0]
        return max(fitting, key=lambda axis: shape[axis], default=None)

    def sharding_of(self, shape: Sequence[int]) -> NamedSharding:
        """Where a parameter of this shape lies, its gradient and what the optimizer keeps of it."""
        longest = self.split_axis(shape)
        if longest is None:
            return self.replicated
        return NamedSharding(
            self.mesh, PartitionSpec(*(AXIS if axis == longest else None for axis in range(len(shape))))
        )

    def shardings_of(self, tree):
        """`sharding_of` for every array (or its shape) of `tree`."""
        return jax.tree.map(lambda x: self.sharding_of(x.shape), tree)

    def place(self, tree):
        """New arrays with the values of `tree`, which every process has whole; none shares memory with its original."""

        def put(x):
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, self.sharding_of(x.shape), lambda index: np.array(x[index]))

        return jax.tree.map(put, tree)

    def rows(self, batch_size: int, accumulation: int) -> np.ndarray:
        """The rows of the global batch that this process loads, int [accumulation, devices here, rows of a device]."""
        rows = np.arange(batch_size).reshape(accumulation, self.count, -1)
        here = [device.process_index == jax.process_index() for device in self.mesh.devices]
        return rows[:, here]

    def place_rows(self, tree):
        """Arrays [devices, ...] of this process's rows [devices here, ...]."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.split, np.asarray(x)), tree)

    def on_one(self, tree):
        """`tree` whole, on the first device of this process; without a copy where it lies there anyway."""
        if not all(x.is_fully_replicated for x in jax.tree.leaves(tree)):
            tree = jax.jit(lambda t: t, out_shardings=self.replicated)(tree)
        return jax.tree.map(lambda x: x.addressable_data(0), tree)


def check_batches(batches: Mapping[str, tuple[int, int]], device_count: int) -> None:
    """Raises UserError, naming all the config's keys that are wrong, where a global batch does not divide.

    Args:
        batches: by key the size and the number of parts that it is accumulated over.
    """
    problems = []
    for key, (size, accumulation) in batches.items():
        parts = device_count * accumulation
        if size % parts:
            among = f" x {accumulation} accumulated parts" if accumulation > 1 else ""
            problems.append(f"{key} is {size}, but there are {device_count} devices{among}; use a multiple of {parts}")
    if problems:
        raise UserError(f"config: {'; '.join(problems)}")


def find_devices(kind: str) -> list[jax.Device]:
    """All devices of all processes, of the kind "gpu" or "cpu" where one was asked for, else ("any") what there is.

    Raises:
        UserError: there are none of that kind.
    """
    devices = jax.devices()
    if kind != "any" and devices[0].platform != kind:
        what = {"gpu": "a GPU", "cpu": "the CPU"}[kind]
        how = {
            "gpu": "install svp_jax[cuda] and NVIDIA's driver (`nvidia-smi` must list the card)",
            "cpu": "set JAX_PLATFORMS=cpu",
        }[kind]
        raise UserError(
            f"config: device is {kind}, but JAX has none: it found {len(devices)} x {devices[0].device_kind}; {how} to "
            f"train on {what}, or use --device any to train on what there is"
        )
    return devices
