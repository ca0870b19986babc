"""What steers a stage's UNet: its ControlNet, text and guidance, each over its part of the schedule."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.diffusion import Schedule
from svp_jax.diffusion.guidance import combined
from svp_jax.models.controlnet import ControlNet
from svp_jax.models.unet import UNet


class Steering(NamedTuple):
    """How strongly a stage is steered, and at which steps.

    A window is int32 [2], the noisiest and the cleanest timestep between which something works (see `window`).
    """

    strength: jax.Array  # float32 [B], factor of the ControlNet's residuals, for each sequence
    control: jax.Array  # window of the ControlNet
    guidance: jax.Array  # scale, of a stage with a negative prompt
    guided: jax.Array  # window of the guidance


def window(schedule: Schedule, start: float, end: float) -> np.ndarray:
    """The timesteps [noisiest, cleanest] of the steps that lie between the fractions `start` and `end` of a schedule.

    Step i of n lies between i / n and (i + 1) / n, as for diffusers' control_guidance_start and _end. Where none does,
    the window holds no timestep.
    """
    edges = np.arange(schedule.num_steps + 1) / schedule.num_steps
    # A fraction such as 0.3 times 10 may come out a little above 3.
    inside = np.flatnonzero((edges[:-1] >= start - 1e-6) & (edges[1:] <= end + 1e-6))
    if not len(inside):
        return np.array([-1, 0], np.int32)
    return schedule.timesteps[inside[[0, -1]]].astype(np.int32)


def computed_anew(schedule: Schedule, every: int, *windows: np.ndarray) -> np.ndarray:
    """The steps at which deep features are computed, bool [num_steps].

    These are the steps that `every` divides, and each at which one of `windows` begins or is over: the features of the
    step before were steered otherwise.
    """
    anew = np.arange(schedule.num_steps) % every == 0
    for noisiest, cleanest in windows:
        inside = (schedule.timesteps <= noisiest) & (schedule.timesteps >= cleanest)
        anew[1:] |= np.diff(inside)
    return anew


def predictor(
    controlnet: ControlNet, unet: UNet, steering: Steering, negative: jax.Array | None
) -> tuple[Callable, Callable]:
    """`predict` and `again` for `sample_sequence` with `Reuse`.

    Their condition is (hint [B, h, w, C0], text features [B, T, D]) of one frame. The features are those of the UNet's
    coarser levels, and the ControlNet's residuals for the finest one.

    Args:
        negative: text features [T, D] to be led away from; None goes without guidance.
    """
    graph, parameters = nnx.split((controlnet, unet))

    @_rows_together
    def everything(parameters, timestep, latent, hint, text, strength):
        controlnet, unet = nnx.merge(graph, parameters)
        timesteps = jnp.broadcast_to(timestep, latent.shape[:1])
        down, mid = controlnet.residuals(latent, timesteps, text, hint, strength)
        output, deep = unet.with_deep_features(latent, timesteps, text, down, mid)
        return output, (deep, *down[: unet.finest_skips])

    @_rows_together
    def finest(parameters, timestep, latent, text, deep, *residuals):
        _, unet = nnx.merge(graph, parameters)
        timesteps = jnp.broadcast_to(timestep, latent.shape[:1])
        return unet.by_deep_features(latent, timesteps, text, deep, residuals)

    def steered(latent, timestep, hint, text):
        strength = jnp.where(_within(timestep, steering.control), steering.strength, 0.0)
        # Both halves of a guided batch get the same control, as in the original ControlNet.
        strength = jnp.tile(strength, len(latent) // len(steering.strength))
        return everything(parameters, timestep, latent, hint, text, strength)

    def with_negative(text):
        return jnp.concatenate([jnp.broadcast_to(negative, text.shape), text])

    def predict(latent, timestep, condition):
        hint, text = condition

        def alone():
            return steered(latent, timestep, hint, text)

        def guided():
            both, features = steered(_twice(latent), timestep, _twice(hint), with_negative(text))
            return combined(both, steering.guidance), features

        def unguided():
            output, features = alone()
            return output, jax.tree.map(_twice, features)

        if negative is None:
            return alone()
        return jax.lax.cond(_within(timestep, steering.guided), guided, unguided)

    def again(latent, timestep, condition, features):
        _, text = condition

        def guided():
            both = finest(parameters, timestep, _twice(latent), with_negative(text), *features)
            return combined(both, steering.guidance)

        def unguided():
            # The second half is the conditional one.
            own = [x[-len(latent) :] for x in features]
            return finest(parameters, timestep, latent, text, *own)

        if negative is None:
            return unguided()
        return jax.lax.cond(_within(timestep, steering.guided), guided, unguided)

    return predict, again


def _within(timestep: jax.Array, window: jax.Array) -> jax.Array:
    return (timestep <= window[0]) & (timestep >= window[1])


def _twice(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, x])


def _rows_together(network: Callable) -> Callable:
    """`network(parameters, timestep, *rows)` of rows [B, ...]; mapped over frames, these become rows of one batch.

    With an axis of their own attention would be slow.
    """

    # What is traced outside comes as arguments: custom_vmap cannot close over it.
    together = jax.custom_batching.custom_vmap(network)

    @together.def_vmap
    def over_frames(count, mapped, parameters, timestep, *rows):
        _, _, *of_frames = mapped
        merged = [
            x.reshape(-1, *x.shape[2:]) if own else jnp.tile(x, (count, *(1,) * (x.ndim - 1)))
            for x, own in zip(rows, of_frames, strict=True)
        ]
        results = network(parameters, timestep, *merged)
        results = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), results)
        return results, jax.tree.map(lambda _: True, results)

    return together
