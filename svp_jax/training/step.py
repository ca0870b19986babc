"""One training step: a pure function of parameters, optimizer state, batch and key."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from svp_jax.training.devices import AXIS
from svp_jax.training.trainable import Flat, Structure, assemble

LossOf = Callable[[dict, dict, jax.Array], jax.Array]
"""(models, batch of b samples, keys [b]) -> loss; one key for each sample, so that the number of devices
that share a global batch does not change its randomness."""


@functools.lru_cache(maxsize=1)
def make_train_step(
    loss_of: LossOf,
    structures: tuple[tuple[str, Structure], ...],
    optimizer: optax.GradientTransformationExtraArgs,
) -> Callable:
    """Builds the step for all local devices, or returns the last one where it is the same: compiling takes a minute.

    Args:
        structures: (name, structure) of every model.

    Returns:
        step(trained, opt_state, frozen, batch, sample_index, seed, step_number, learning_rate) ->
        (trained, opt_state, scalars): the first three replicated, `batch` and `sample_index` [D, b] sharded, the
        last three scalars, so that runs which differ in nothing else compile once. The first two arguments are
        donated. `scalars` holds the loss and the L2 norms of gradients, updates and trained parameters, averaged
        over the global batch.
    """

    def step(trained: Flat, opt_state, frozen: Flat, batch, sample_index, seed, step_number, learning_rate):
        step_key = jax.random.fold_in(jax.random.key(seed), step_number)
        keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(sample_index)

        def loss_fn(trained: Flat) -> jax.Array:
            return loss_of(assemble(dict(structures), {**frozen, **trained}), batch, keys)

        loss, gradients = jax.value_and_grad(loss_fn)(trained)
        loss, gradients = jax.lax.pmean((loss, gradients), AXIS)
        updates, opt_state = optimizer.update(gradients, opt_state, trained, learning_rate=learning_rate)
        trained = optax.apply_updates(trained, updates)
        scalars = {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "update_norm": optax.tree.norm(updates),
            "parameter_norm": optax.tree.norm(trained),
        }
        return trained, opt_state, jax.tree.map(jnp.asarray, scalars)

    return jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, 0, 0, 0, None, None, None), donate_argnums=(0, 1))
