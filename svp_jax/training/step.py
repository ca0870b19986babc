"""One training step: a pure function of parameters, optimizer state, batch and key."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from svp_jax.training.devices import AXIS
from svp_jax.training.trainable import Flat, Structure, assemble

LossOf = Callable[[dict, dict, jax.Array], jax.Array]
"""(models, batch of b samples, keys [b]) -> loss; one key for each sample, so that the number of devices
that share a global batch does not change its randomness."""


def make_optimizer(
    learning_rate: float,
    multipliers: Mapping[str, float],
    *,
    steps: int,
    warmup_steps: int,
    decay: str,
    clip_norm: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """AdamW (betas 0.9, 0.999, eps 1e-8) with linear warm-up, clipping by the global norm, per-parameter rates.

    Args:
        learning_rate: the peak; multiplied by each parameter's own `multipliers` entry.
        steps: length of the run, the end of a cosine decay.
        decay: "constant" or "cosine" (to 0 at `steps`).
    """
    warmup_steps = min(warmup_steps, steps // 2)
    warmup = optax.linear_schedule(learning_rate / max(1, warmup_steps), learning_rate, max(1, warmup_steps))
    if decay == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, max(1, steps - warmup_steps))
    else:
        after = optax.constant_schedule(learning_rate)
    scale = optax.stateless(
        lambda updates, params: {name: update * multipliers[name] for name, update in updates.items()}
    )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(
            optax.join_schedules([warmup, after], [warmup_steps]),
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            weight_decay=weight_decay,
        ),
        scale,
    )


def make_train_step(
    loss_of: LossOf,
    structures: Mapping[str, Structure],
    optimizer: optax.GradientTransformation,
    seed: int,
) -> Callable:
    """Builds the step for all local devices.

    Returns:
        step(trained, opt_state, frozen, batch, sample_index, step_number) ->
        (trained, opt_state, scalars): the first three replicated, `batch` and `sample_index` [D, b] sharded,
        `step_number` a scalar. The first two arguments are donated. `scalars` holds the loss and the L2 norms
        of gradients, updates and trained parameters, averaged over the global batch.
    """

    def step(trained: Flat, opt_state, frozen: Flat, batch, sample_index, step_number):
        step_key = jax.random.fold_in(jax.random.key(seed), step_number)
        keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(sample_index)

        def loss_fn(trained: Flat) -> jax.Array:
            return loss_of(assemble(structures, {**frozen, **trained}), batch, keys)

        loss, gradients = jax.value_and_grad(loss_fn)(trained)
        loss, gradients = jax.lax.pmean((loss, gradients), AXIS)
        updates, opt_state = optimizer.update(gradients, opt_state, trained)
        trained = optax.apply_updates(trained, updates)
        scalars = {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "update_norm": optax.tree.norm(updates),
            "parameter_norm": optax.tree.norm(trained),
        }
        return trained, opt_state, jax.tree.map(jnp.asarray, scalars)

    return jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, 0, 0, 0, None), donate_argnums=(0, 1))
