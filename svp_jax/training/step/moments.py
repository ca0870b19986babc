"""Adam's moments, in float32, or in bfloat16 and rounded at random.

A second moment changes by a thousandth a step, and bfloat16 tells numbers apart that differ by 1/256: rounded to the
nearest it would never change again. Rounded up with the probability of the part that is cut off it is right on average.
"""

import jax
import jax.numpy as jnp
import optax


def scale_by_adam(b1: float, b2: float, eps: float, dtype: jnp.dtype) -> optax.GradientTransformationExtraArgs:
    """As `optax.scale_by_adam` (Kingma and Ba, arXiv 1412.6980), both moments stored in `dtype`.

    `update` takes `finite`, without which the state stays as it is, and the `key` that rounds bfloat16. optax's would
    need a choice between the old moments and the new after the step is made of the new: then XLA's CPU backend
    copies all of them, and the update takes nearly twice as long.
    """

    def init(params):
        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, dtype), params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros))

    def update(updates, state, params=None, *, finite, key, **_):
        count = state.count + finite
        leaves, tree = jax.tree.flatten(updates)
        results = []
        for number, (g, m, v) in enumerate(
            zip(leaves, tree.flatten_up_to(state.mu), tree.flatten_up_to(state.nu), strict=True)
        ):
            m, v = m.astype(jnp.float32), v.astype(jnp.float32)
            m = jnp.where(finite, b1 * m + (1 - b1) * g, m)
            v = jnp.where(finite, b2 * v + (1 - b2) * jnp.square(g), v)
            step = (m / (1 - b1**count)) / (jnp.sqrt(v / (1 - b2**count)) + eps)
            if dtype == jnp.bfloat16:
                bits = jax.random.bits(jax.random.fold_in(key, number), g.shape, jnp.uint32)
                # Half of the bits for each moment. What has not changed is not changed by them either.
                m, v = round_at_random(m, bits & 0xFFFF), round_at_random(v, bits >> 16)
            results.append((step, m, v))
        steps, mu, nu = (tree.unflatten(part) for part in zip(*results, strict=True))
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def round_at_random(x: jax.Array, bits: jax.Array) -> jax.Array:
    """float32 `x` as bfloat16, up or down with the probabilities whose mean is `x`.

    Args:
        bits: uint32 below 2^16, uniform, of the shape of `x`.
    """
    # bfloat16 is the upper half of float32: what is added carries over where it exceeds the part cut off.
    raised = jax.lax.bitcast_convert_type(x, jnp.uint32) + bits
    return jax.lax.bitcast_convert_type(raised & jnp.uint32(0xFFFF0000), jnp.float32).astype(jnp.bfloat16)
