"""Programs written for one device, compiled for all: by pmap, or by shard_map where parameters are shared out.

A total of (loss, gradients) is every device's own: an array [devices, ...] with a row for each, or, of a parameter that
is shared out, each device's share of it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from svp_jax.training.step.devices import AXIS, Devices
from svp_jax.training.step.trainable import Flat

OWN, SAME = PartitionSpec(AXIS), PartitionSpec()


def compile_for_all(
    devices: Devices, function: Callable, total, trained: Flat, frozen: Flat, part: dict, numbers, *, averages: bool
) -> jax.stages.Compiled:
    """Compiles `function` of one device's (total, trained, frozen, part, numbers); the total is donated.

    Args:
        part: arrays [devices, ...], of which every device gets its own row.
        averages: whether the function returns the same (loss, gradients) on all devices, else its own total.
    """
    arguments = (total, trained, frozen, part, numbers)
    if not devices.shared_out:
        mapped = jax.pmap(
            function,
            axis_name=AXIS,
            in_axes=(0, None, None, 0, None),
            out_axes=None if averages else 0,
            devices=list(devices.mesh.devices),
            donate_argnums=(0,),
        )
        return mapped.lower(*arguments).compile()

    whole = {name for name, x in trained.items() if devices.split_axis(x.shape) is None}

    def of_one(total, trained, frozen, part, numbers):
        # Where pmap takes off the axis of one row, and puts it on again, shard_map leaves it.
        if total:
            total = total[0][0], {name: x[0] if name in whole else x for name, x in total[1].items()}
        loss, gradients = function(total, trained, frozen, jax.tree.map(lambda x: x[0], part), numbers)
        if averages:
            return loss, gradients
        return loss[None], {name: x[None] if name in whole else x for name, x in gradients.items()}

    state, rest = ({name: devices.sharding_of(x.shape).spec for name, x in flat.items()} for flat in (trained, frozen))
    own = OWN, {name: OWN if name in whole else spec for name, spec in state.items()}
    mapped = jax.shard_map(
        of_one,
        mesh=devices.mesh,
        in_specs=(own if total else (), state, rest, OWN, SAME),
        out_specs=(SAME, state) if averages else own,
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=(0,)).lower(*arguments).compile()


def empty_total(devices: Devices, trained: Flat) -> Callable[[], tuple]:
    """Makes a total of zeros."""
    own = (devices.count,)
    shapes, shardings = {}, {}
    for name, x in trained.items():
        whole = devices.split_axis(x.shape) is None
        shapes[name] = own + x.shape if whole else x.shape
        shardings[name] = devices.split if whole else devices.sharding_of(x.shape)
    return jax.jit(
        lambda: (jnp.zeros(own), {name: jnp.zeros(shape) for name, shape in shapes.items()}),
        out_shardings=(devices.split, shardings),
    )
