"""All local devices as one: `jax.pmap` with the batch sharded and everything else replicated."""

import jax
import numpy as np

from svp_jax.errors import UserError

AXIS = "devices"


def check_batch(batch_size: int, device_count: int, key: str = "batch_size") -> None:
    """Raises UserError, naming the config's `key`, where the global batch does not divide over the devices."""
    if batch_size % device_count:
        raise UserError(
            f"config: {key} is {batch_size}, but there are {device_count} devices; use a multiple of {device_count}"
        )


def replicate(tree):
    """Adds a leading axis of one copy per local device to every array of `tree`."""
    # pmap wants one mapped argument: the devices' numbers.
    numbers = np.arange(jax.local_device_count())
    # The axis name counts: arrays that came over another axis would make the training step compile twice.
    return jax.pmap(lambda _, x: x, axis_name=AXIS, in_axes=(0, None))(numbers, tree)


def first(tree):
    """The first device's copy of a replicated `tree`."""
    return jax.tree.map(lambda x: x[0], tree)


def shard(batch):
    """Splits the leading axis B of every array into [devices, B / devices]."""
    count = jax.local_device_count()
    return jax.tree.map(lambda x: np.reshape(x, (count, len(x) // count, *np.shape(x)[1:])), batch)
