"""Loss and gradients of a batch: parts of it are summed up, every device takes its rows, then all average."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.training.step.devices import AXIS, Devices
from svp_jax.training.step.packing import Packing
from svp_jax.training.step.per_device import compile_for_all, empty_total
from svp_jax.training.step.remat import rematerialise
from svp_jax.training.step.trainable import Flat, Structure, assemble

LossOf = Callable[[dict, dict, jax.Array], jax.Array]
"""(models, batch of b samples, keys [b]) -> loss; one key for each sample, so that the number of devices
that share a global batch does not change its randomness."""


class Numbers(NamedTuple):
    """What differs from step to step besides data: runs which differ in nothing else share a compiled step."""

    seed: np.uint32
    step: np.uint32
    learning_rate: np.float32
    ema_decay: np.float32


class Gradients:
    """Call with (trained, frozen, parts, numbers) for (loss, gradients), averaged over the parts and all devices.

    What is trained, and its gradients, are packed.

    Each part of the batch holds arrays [devices, b, ...] and, as "row", their places in the global batch, which
    randomness is folded from. Programs are compiled once for each shape of a part and number of parts.
    """

    def __init__(
        self, loss_of: LossOf, structures: Mapping[str, Structure], packing: Packing, devices: Devices, remat: str
    ):
        self._loss_of, self._structures, self._packing = loss_of, structures, packing
        self._devices, self._remat = devices, remat
        self._programs = {}

    def __call__(self, trained: Flat, frozen: Flat, parts: Sequence[dict], numbers: Numbers) -> tuple[jax.Array, Flat]:
        empty, add, finish = self._compiled(trained, frozen, parts[0], numbers, len(parts))
        total = empty()
        for part in parts[:-1]:
            total = add(total, trained, frozen, part, numbers)
        return finish(total, trained, frozen, parts[-1], numbers)

    def compiled(self, trained: Flat, frozen: Flat, part: dict, numbers: Numbers, count: int) -> jax.stages.Compiled:
        """The program of the last of `count` such parts, which needs most memory; compiles it where it is new.

        In a single process the arguments may be shapes with shardings.
        """
        return self._compiled(trained, frozen, part, numbers, count)[-1]

    def _compiled(self, trained: Flat, frozen: Flat, part: dict, numbers: Numbers, count: int) -> tuple:
        """(makes an empty total, adds a part's loss and gradients to it, adds the last part's and averages)."""
        signature = (count, *((name, x.shape, str(x.dtype)) for name, x in sorted(part.items())))
        if signature in self._programs:
            return self._programs[signature]
        devices = self._devices
        split = {name: devices.split_axis(x.shape) for name, x in {**frozen, **trained}.items()}

        def add(total, *inputs):
            new = self._of_one_device(split, *inputs)
            return jax.tree.map(jnp.add, total, new) if total else new

        def finish(total, *inputs):
            loss, gradients = jax.tree.map(lambda x: x / count, add(total, *inputs))
            if devices.count == 1:
                # The mean of one would be a copy of everything.
                return loss, gradients
            # Of a parameter that is shared out the sum over all devices has come back already (`_gather`).
            return jax.lax.pmean(loss, AXIS), {
                name: jax.lax.pmean(g, AXIS) if split[name] is None else g / devices.count
                for name, g in gradients.items()
            }

        empty, adding = tuple, None
        if count > 1:
            empty = empty_total(devices, trained)
            adding = compile_for_all(devices, add, empty(), trained, frozen, part, numbers, averages=False)
        finishing = compile_for_all(devices, finish, empty(), trained, frozen, part, numbers, averages=True)
        self._programs[signature] = empty, adding, finishing
        return self._programs[signature]

    def _of_one_device(self, split: dict, trained: Flat, frozen: Flat, part: dict, numbers: Numbers):
        """(loss, gradients) of one device's rows."""
        step_key = jax.random.fold_in(jax.random.key(numbers.seed), numbers.step)
        keys = jax.vmap(lambda row: jax.random.fold_in(step_key, row))(part["row"])
        batch = {name: x for name, x in part.items() if name != "row"}

        def loss_fn(trained: Flat) -> jax.Array:
            models = assemble(self._structures, {**frozen, **trained})
            for name, model in models.items():
                rematerialise(model, self._remat, _gather(split) if self._devices.shared_out else None, name)
            return self._loss_of(models, batch, keys)

        # Not of the vector of small ones: the transpose of its hundreds of slices would be as many sums over all of it.
        loss, gradients = jax.value_and_grad(loss_fn)(self._packing.unpack(trained))
        return loss, self._packing.pack(gradients)


def _gather(split: Mapping[str, int | None]) -> Callable[[str, jax.Array], jax.Array]:
    """Makes the parameter of a name whole; the transpose sums its gradient over all devices and shares it out again."""

    def gather(name: str, x: jax.Array) -> jax.Array:
        axis = split.get(name)  # None of those that are packed
        return x if axis is None else jax.lax.all_gather(x, AXIS, axis=axis, tiled=True)

    return gather
