"""Temporal denoising of a sequence: a scan over frames, each a scan over denoising steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.diffusion.ddim import TemporalWeights, ddim_step, temporal_step
from svp_jax.diffusion.schedule import Schedule


class Carry(NamedTuple):
    """What the next chunk of frames needs to know of this one."""

    latent: jax.Array  # [B, h, w, c] the last frame's final latent
    valid: jax.Array | bool  # false before the first frame of all
    frame: jax.Array | int  # how many frames came before, for the noise of eta > 0

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Carry":
        """Nothing came before; typed like a returned carry, so that jit compiles once for both."""
        return cls(np.zeros(shape, np.float32), np.bool_(False), np.int32(0))


def sample_sequence(
    predict: Callable,
    schedule: Schedule,
    noise: jax.Array,
    conditions: Any,
    temporal: TemporalWeights,
    carry: Carry | jax.Array | None = None,
    shot_starts: jax.Array | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Carry]:
    """Denoises frames in order, each with the previous one's final latent at hand.

    Traceable: callers jit it with schedule, noise, conditions, temporal and carry as arguments. Splitting a
    sequence into chunks and handing on the carry gives the same latents.

    Args:
        predict: (latent[B, h, w, c], timestep int32 scalar, condition) -> model output [B, h, w, c].
        schedule: the denoising steps.
        noise: float32 [F, B, h, w, c] standard normal start of each frame.
        conditions: any pytree with leading axis F; `predict` gets one frame's slice.
        temporal: weights of the temporal step.
        carry: what the previous chunk returned, or the latent [B, h, w, c] of the frame before; None: nothing
            before. `Carry.empty(shape)` means the same as None and shares its compilation with later chunks.
        shot_starts: bool [F], true where a frame must not look back; None: nowhere.
        key: for a schedule with eta > 0; the noise of a step depends on the key, the frame and the step only.

    Returns:
        latents float32 [F, B, h, w, c], and the carry for the next chunk.

    Raises:
        ValueError: eta > 0 without a key, or shapes that do not fit.
    """
    frames, shape = noise.shape[0], noise.shape[1:]
    if schedule.stochastic and key is None:
        raise ValueError("key is None, but the schedule has eta > 0 and draws noise: give a jax.random.key")
    if carry is None:
        carry = Carry.empty(shape)
    elif not isinstance(carry, Carry):
        carry = Carry(carry, True, 0)
    if carry.latent.shape != shape:
        raise ValueError(f"carry has shape {carry.latent.shape}, one frame's noise has {shape}")
    if shot_starts is None:
        shot_starts = np.zeros(frames, bool)
    if shot_starts.shape != (frames,):
        raise ValueError(f"shot_starts has shape {shot_starts.shape}, expected ({frames},)")

    def next_frame(carry: Carry, inputs):
        start, condition, shot_start = inputs
        looks_back = carry.valid & ~shot_start

        def next_step(latent, inputs):
            number, step = inputs
            output = predict(latent, step.timesteps, condition).astype(jnp.float32)
            fresh = None
            if schedule.stochastic:
                step_key = jax.random.fold_in(jax.random.fold_in(key, carry.frame), number)
                fresh = jax.random.normal(step_key, shape)
            # A branch, not a `where` on both results: side by side the two formulas share products, so XLA
            # contracts other pairs to fused multiply-adds, and plain DDIM would differ in the last bit.
            latent = jax.lax.cond(
                looks_back & temporal.mixes_at(number, schedule.num_steps),
                lambda: temporal_step(step, latent, output, carry.latent, temporal, fresh),
                lambda: ddim_step(step, latent, output, fresh),
            )
            return latent, None

        latent, _ = jax.lax.scan(next_step, start, (jnp.arange(schedule.num_steps), schedule))
        return Carry(latent, jnp.bool_(True), carry.frame + 1), latent

    carry = Carry(
        jnp.asarray(carry.latent, jnp.float32),
        jnp.asarray(carry.valid, bool),
        jnp.asarray(carry.frame, jnp.int32),
    )
    inputs = (jnp.asarray(noise, jnp.float32), conditions, jnp.asarray(shot_starts, bool))
    carry, latents = jax.lax.scan(next_frame, carry, inputs)
    return latents, carry
