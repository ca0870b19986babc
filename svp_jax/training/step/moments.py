"""Adam's moments in bfloat16, rounded at random.

A second moment changes by a thousandth a step, and bfloat16 tells numbers apart that differ by 1/256: rounded to the
nearest it would never change again. Rounded up with the probability of the part that is cut off it is right on average.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class BFloat16AdamState(NamedTuple):
    """Of Kingma and Ba, arXiv 1412.6980: t, m and v."""

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def scale_by_adam_bfloat16(b1: float, b2: float, eps: float) -> optax.GradientTransformationExtraArgs:
    """As `optax.scale_by_adam`, both moments stored in bfloat16; `update` takes the `key` that rounds them."""

    def init(params):
        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.bfloat16), params)
        return BFloat16AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros))

    def update(updates, state, params=None, *, key, **_):
        count = state.count + 1
        leaves, tree = jax.tree.flatten(updates)
        results = []
        for number, (g, m, v) in enumerate(
            zip(leaves, tree.flatten_up_to(state.mu), tree.flatten_up_to(state.nu), strict=True)
        ):
            m = b1 * m.astype(jnp.float32) + (1 - b1) * g
            v = b2 * v.astype(jnp.float32) + (1 - b2) * jnp.square(g)
            step = (m / (1 - b1**count)) / (jnp.sqrt(v / (1 - b2**count)) + eps)
            bits = jax.random.bits(jax.random.fold_in(key, number), g.shape, jnp.uint32)
            # Half of the bits for each moment.
            results.append((step, round_at_random(m, bits & 0xFFFF), round_at_random(v, bits >> 16)))
        steps, mu, nu = (tree.unflatten(part) for part in zip(*results, strict=True))
        return steps, BFloat16AdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def round_at_random(x: jax.Array, bits: jax.Array) -> jax.Array:
    """float32 `x` as bfloat16, up or down with the probabilities whose mean is `x`.

    Args:
        bits: uint32 below 2^16, uniform, of the shape of `x`.
    """
    # bfloat16 is the upper half of float32: what is added carries over where it exceeds the part cut off.
    raised = jax.lax.bitcast_convert_type(x, jnp.uint32) + bits
    return jax.lax.bitcast_convert_type(raised & jnp.uint32(0xFFFF0000), jnp.float32).astype(jnp.bfloat16)
