"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def guide(predict: Callable, guidance: float | jax.Array) -> Callable:
    """Wraps a `predict` that works on [unconditional, conditional] pairs into one for single latents.

    Args:
        predict: (latent[2B, ...], timestep, condition) -> output[2B, ...]. The first B entries are the
            unconditional half, as in diffusers; the text features that `predict` uses, and conditions with a
            batch axis, must be stacked in that order.
        guidance: as in `combined`. At 1 both halves are computed: without guidance, not wrapping saves half the work.

    Returns:
        (latent[B, ...], timestep, condition) -> output[B, ...]
    """

    def guided(latent, timestep, condition):
        return combined(predict(jnp.concatenate([latent, latent]), timestep, condition), guidance)

    return guided


def combined(both: jax.Array, guidance: float | jax.Array) -> jax.Array:
    """uncond + guidance * (cond - uncond) [B, ...] of outputs [2B, ...], the unconditional ones first.

    Args:
        guidance: scale, a traced scalar; at 1 the result is exactly the conditional half.
    """
    unconditional, conditional = jnp.split(both, 2)
    # A branch also keeps this sum out of the fused kernel of the denoising step, which would round anew.
    return jax.lax.cond(
        jnp.asarray(guidance) == 1,
        lambda: conditional,
        lambda: unconditional + guidance * (conditional - unconditional),
    )
