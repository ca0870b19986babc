"""Temporal denoising of a sequence: first what frames do by themselves, then a scan over frames."""

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
    batch: int = 1,
) -> tuple[jax.Array, Carry]:
    """Denoises frames in order, each with the previous one's final latent at hand.

    In two phases: the steps before the first that mixes depend on no other frame, so frames go through them in
    batches; from there on one after the other.

    Traceable: callers jit it with schedule, noise, conditions, temporal and carry as arguments. Splitting a
    sequence into chunks and handing on the carry gives the same latents.

    Args:
        predict: (latent[B, h, w, c], timestep int32 scalar, condition) -> model output [B, h, w, c]. With `batch`
            above 1 it is also mapped over a leading axis of latent and condition (`jax.vmap`).
        schedule: the denoising steps.
        noise: float32 [F, B, h, w, c] standard normal start of each frame.
        conditions: any pytree with leading axis F; `predict` gets one frame's slice.
        temporal: weights of the temporal step.
        carry: what the previous chunk returned, or the latent [B, h, w, c] of the frame before; None: nothing
            before. `Carry.empty(shape)` means the same as None and shares its compilation with later chunks.
        shot_starts: bool [F], true where a frame must not look back; None: nowhere.
        key: for a schedule with eta > 0; the noise of a step depends on the key, the frame and the step only.
        batch: frames of the first phase that are computed together.

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

    columns = jax.tree.map(jnp.asarray, schedule)
    first, last = temporal.mixed_steps(schedule.num_steps)

    def denoise(number, latent, condition, frame, mixes, previous):
        """One step of a frame."""
        step = jax.tree.map(lambda column: column[number], columns)
        output = predict(latent, step.timesteps, condition).astype(jnp.float32)
        fresh = None
        if schedule.stochastic:
            step_key = jax.random.fold_in(jax.random.fold_in(key, frame), number)
            fresh = jax.random.normal(step_key, shape)
        # A branch, not a `where` on both results: side by side the two formulas share products, so XLA contracts other
        # pairs to fused multiply-adds, and plain DDIM would differ in the last bit.
        return jax.lax.cond(
            mixes,
            lambda: temporal_step(step, latent, output, previous, temporal, fresh),
            lambda: ddim_step(step, latent, output, fresh),
        )

    def alone(inputs):
        """A frame after the steps before `first`."""
        start, condition, frame = inputs

        def next_step(number, latent):
            # None of these mixes; the branch alone keeps them apart from what makes the noise, to be rounded alike.
            return denoise(number, latent, condition, frame, number >= first, carry.latent)

        return jax.lax.fori_loop(0, first, next_step, start)

    def next_frame(carry: Carry, inputs):
        start, condition, shot_start = inputs
        looks_back = carry.valid & ~shot_start

        def next_step(number, latent):
            return denoise(number, latent, condition, carry.frame, looks_back & (number <= last), carry.latent)

        latent = jax.lax.fori_loop(first, schedule.num_steps, next_step, start)
        return Carry(latent, jnp.bool_(True), carry.frame + 1), latent

    carry = Carry(
        jnp.asarray(carry.latent, jnp.float32),
        jnp.asarray(carry.valid, bool),
        jnp.asarray(carry.frame, jnp.int32),
    )
    numbers = carry.frame + jnp.arange(frames, dtype=jnp.int32)
    starts = jax.lax.map(
        alone, (jnp.asarray(noise, jnp.float32), conditions, numbers), batch_size=batch if batch > 1 else None
    )
    carry, latents = jax.lax.scan(next_frame, carry, (starts, conditions, jnp.asarray(shot_starts, bool)))
    return latents, carry
