"""All local devices as one: `jax.pmap` with the batch sharded and everything else replicated."""

import jax
import numpy as np

from svp_jax.errors import UserError

AXIS = "devices"


def check_batch(batch_size: int, device_count: int) -> None:
    """Raises UserError where the global batch does not divide over the devices."""
    if batch_size % device_count:
        raise UserError(
            f"config: batch_size is {batch_size}, but there are {device_count} devices; "
            f"use a multiple of {device_count}"
        )


def replicate(tree):
    """Adds a leading axis of one copy per local device to every array of `tree`."""
    return jax.pmap(lambda x: x, in_axes=None, out_axes=0, axis_size=jax.local_device_count())(tree)


def first(tree):
    """The first device's copy of a replicated `tree`."""
    return jax.tree.map(lambda x: x[0], tree)


def shard(batch):
    """Splits the leading axis B of every array into [devices, B / devices]."""
    count = jax.local_device_count()
    return jax.tree.map(lambda x: np.reshape(x, (count, len(x) // count, *np.shape(x)[1:])), batch)
