"""How much memory a run needs on each device, what the devices have, and what to do where that is too little."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from svp_jax.errors import OUT_OF_MEMORY, UserError
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices

GIB = 2**30
POOL = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes on one device: of the state, of frozen parameters, of the gradients, and of all else while a step runs."""

    state: int
    frozen: int
    gradients: int
    activations: int

    @classmethod
    def before_steps(cls, state, trained, frozen, devices: Devices) -> "MemoryNeed":
        """What is known before the step is compiled: it needs the gradients at least."""
        state, trained, frozen = (bytes_on_device(tree, devices) for tree in (state, trained, frozen))
        return cls(state, frozen, trained, 0)

    @property
    def total(self) -> int:
        return self.state + self.frozen + self.gradients + self.activations

    def __str__(self) -> str:
        return (
            f"{_gib(self.total)} (state {_gib(self.state)}, frozen parameters {_gib(self.frozen)}, "
            f"gradients {_gib(self.gradients)}, activations {_gib(self.activations)})"
        )


def bytes_on_device(tree, devices: Devices) -> int:
    """Of the arrays (or shapes) of `tree`, as they will lie on `devices`."""
    total = 0
    for x in jax.tree.leaves(tree):
        total += int(np.prod(devices.sharding_of(x.shape).shard_shape(x.shape))) * np.dtype(x.dtype).itemsize
    return total


def need(state, trained, frozen, compiled: jax.stages.Compiled, devices: Devices) -> MemoryNeed:
    """What is needed while `compiled` makes gradients, by the compiler's own account; the update needs less.

    Where parameters are shared out they come together for previews: that counts instead where it is more.
    """
    whole = sum(x.nbytes for x in jax.tree.leaves((trained, frozen))) if devices.shared_out else 0
    state, trained, frozen = (bytes_on_device(tree, devices) for tree in (state, trained, frozen))
    analysis = compiled.memory_analysis()
    fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    rest = analysis.argument_size_in_bytes - trained - frozen + analysis.temp_size_in_bytes + fresh
    return MemoryNeed(state, frozen, trained, max(rest, whole) - trained)


def available(device: jax.Device) -> int:
    """Bytes that `device` lets this process use; of the CPU, its part of the machine's memory."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()


def check_memory(name: str, found: MemoryNeed, devices: Devices, settings: RunSettings) -> str:
    """One line that says what the run `name` needs and has.

    Raises:
        UserError: it is more than the devices have; names what would help, with the memory that it would leave.
    """
    device = devices.mesh.local_devices[0]
    room = available(device)
    line = f"{name}: memory on each of {devices.count} x {device.device_kind}: {found} of {_gib(room)}"
    if found.total <= room:
        return line
    raise UserError(f"{line}: too much; {remedies(found, devices, settings)}")


@contextlib.contextmanager
def explain_out_of_memory(explanation: str) -> Iterator[None]:
    """Turns JAX's error that a device is out of memory into a UserError with an `explanation`.

    Estimates leave out what they cannot know: pieces of free memory that are too small, and other programs.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        raise UserError(f"the device is out of memory: {explanation}") from None


def remedies(found: MemoryNeed, devices: Devices, settings: RunSettings) -> str:
    """Settings that make a run smaller, with estimates of what they leave: those with which it can go on come first."""
    if settings.section:
        return (
            f"start anew with a lower {settings.section}.batch_size, or {settings.section}.trainable: none, or take a "
            "device with more memory"
        )
    device = devices.mesh.local_devices[0]
    room = available(device)
    activations = max(found.activations, 0)
    rows = settings.batch_size // devices.count // settings.accumulation
    going_on, anew = [], []
    if device.platform == "gpu" and POOL not in os.environ:
        going_on.append(f"{POOL}=0.95 in the environment (JAX takes three quarters of a GPU)")
    if rows > 1 and activations:
        fitting = [n for n in range(2, rows + 1) if rows % n == 0]
        left = {n: found.total - activations + activations // n for n in fitting}
        best = next((n for n in fitting if left[n] <= room), fitting[-1])
        going_on.append(f"accumulation: {settings.accumulation * best} (about {_gib(left[best])})")
    if settings.remat != "full" and activations:
        going_on.append(f"remat: {'light, or full' if settings.remat == 'none' else 'full'}")
    if devices.count > 1 and not devices.shared_out:
        spared = (found.state + found.frozen) * (devices.count - 1) // devices.count
        going_on.append(f"parallel: fsdp (about {_gib(found.total - spared)})")
    going_on.append("a device with more memory")
    if settings.precision == "float32":
        anew.append(f"precision: bfloat16 (about {_gib(found.total - activations // 2 - found.frozen // 2)})")
    if settings.optimizer.state == "float32":
        # Half of both moments, which are as large as the parameters each.
        anew.append(f"optimizer_state: bfloat16 (about {_gib(found.total - found.gradients)})")
    anew.append("trainable: locked; a smaller --size of the capture")
    return f"go on with {'; '.join(going_on)}; or start anew with {'; '.join(anew)}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"
