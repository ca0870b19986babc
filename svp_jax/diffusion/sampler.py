"""Temporal denoising of sequences: first what frames do by themselves, then a scan over frames."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.diffusion.ddim import TemporalWeights, ddim_step, temporal_step
from svp_jax.diffusion.schedule import Schedule


class Carry(NamedTuple):
    """What the next chunk of frames needs to know of this one: of each of the B sequences its own."""

    latent: jax.Array  # [B, h, w, c] the last frame's final latent
    valid: jax.Array | bool  # [B] or one for all: false before the first frame of all
    frame: jax.Array | int  # [B] or one for all: how many frames came before, for the noise of eta > 0

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Carry":
        """Nothing came before; typed like a returned carry, so that jit compiles once for both."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape[0], bool), np.zeros(shape[0], np.int32))


class Reuse(NamedTuple):
    """Deep features that are computed at some steps and taken again at those between.

    Neighbouring steps see almost the same picture, and the coarse levels of a UNet change least (DeepCache, Ma et al.,
    arXiv 2312.00858).
    """

    again: Callable  # (latent, timestep, condition, features) -> output
    anew: jax.Array  # bool [num_steps], the steps at which they are computed besides each phase's first, and `begin`


def sample_sequence(
    predict: Callable,
    schedule: Schedule,
    noise: jax.Array,
    conditions: Any,
    temporal: TemporalWeights,
    carry: Carry | jax.Array | None = None,
    shot_starts: jax.Array | None = None,
    key: jax.Array | None = None,
    *,
    active: jax.Array | None = None,
    begin: jax.Array | None = None,
    reuse: Reuse | None = None,
    batch: int = 1,
) -> tuple[jax.Array, Carry]:
    """Denoises frames in order, each with the previous one's final latent at hand; B sequences side by side.

    In two phases: the steps before the first that mixes depend on no other frame, so frames go through them in
    batches; from there on one after the other.

    Traceable: callers jit it with schedule, noise, conditions, temporal and carry as arguments. Splitting a
    sequence into chunks and handing on the carry gives the same latents, and so does what is beside it in B.

    Args:
        predict: (latent[B, h, w, c], timestep int32 scalar, condition) -> model output [B, h, w, c]; with `reuse` ->
            (output, features). With `batch` above 1 it is also mapped over a leading axis of latent and condition
            (`jax.vmap`).
        schedule: the denoising steps.
        noise: float32 [F, B, h, w, c] standard normal start of each frame.
        conditions: any pytree with leading axis F; `predict` gets one frame's slice.
        temporal: weights of the temporal step.
        carry: what the previous chunk returned, or the latent [B, h, w, c] of the frame before; None: nothing
            before. `Carry.empty(shape)` means the same as None and shares its compilation with later chunks.
        shot_starts: bool [F] or [F, B], true where a frame must not look back; None: nowhere.
        key: for a schedule with eta > 0; the noise of a step depends on the key, the frame and the step only.
        active: bool [F] or [F, B], false where there is no frame, after all that there are; None: nowhere. What is
            computed of none of the sequences costs nothing.
        begin: int32 scalar, a step above 0: frames that look back begin there, with the previous frame's latent noised
            to that step's level (as SDEdit does with a picture, Meng et al., arXiv 2108.01073), and skip the steps
            before. Then no step is without other frames. 0 and None: all begin with noise alone.
        reuse: None computes everything at every step.
        batch: frames of the first phase that are computed together.

    Returns:
        latents float32 [F, B, h, w, c], and the carry for the next chunk.

    Raises:
        ValueError: eta > 0 without a key, or shapes that do not fit.
    """
    frames, shape = noise.shape[0], noise.shape[1:]
    rows = shape[0]
    if schedule.stochastic and key is None:
        raise ValueError("key is None, but the schedule has eta > 0 and draws noise: give a jax.random.key")
    if carry is None:
        carry = Carry.empty(shape)
    elif not isinstance(carry, Carry):
        carry = Carry(carry, True, 0)
    if carry.latent.shape != shape:
        raise ValueError(f"carry has shape {carry.latent.shape}, one frame's noise has {shape}")
    carry = Carry(
        jnp.asarray(carry.latent, jnp.float32),
        jnp.broadcast_to(jnp.asarray(carry.valid, bool), (rows,)),
        jnp.broadcast_to(jnp.asarray(carry.frame, jnp.int32), (rows,)),
    )
    shot_starts = _flags("shot_starts", shot_starts, False, frames, rows)
    active = _flags("active", active, True, frames, rows)

    columns = jax.tree.map(jnp.asarray, schedule)
    first, last = temporal.mixed_steps(schedule.num_steps)
    # Where the second phase starts.
    second = first if begin is None else jnp.where(begin > 0, 0, first)

    def output_of(number, start, latent, condition, features):
        """The network's output at a step of a phase that starts with the step `start`, and the features to reuse."""
        timestep = columns.timesteps[number]
        if reuse is None:
            return predict(latent, timestep, condition), features
        anew = jnp.asarray(reuse.anew)[number] | (number == start)
        if begin is not None:
            # Of all sequences, or it would matter to one whether those beside it begin here.
            anew |= number == begin
        return jax.lax.cond(
            anew,
            lambda: predict(latent, timestep, condition),
            lambda: (reuse.again(latent, timestep, condition, features), features),
        )

    def no_features(latent, condition):
        if reuse is None:
            return None
        _, features = jax.eval_shape(predict, latent, columns.timesteps[0], condition)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), features)

    def step_of(number, latent, output, frame, mixes, previous):
        """One DDIM step; `mixes` bool [B] are the sequences that take over of `previous`."""
        step = jax.tree.map(lambda column: column[number], columns)
        output = output.astype(jnp.float32)
        fresh = None
        if schedule.stochastic:
            fresh = jax.vmap(
                lambda frame: jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, frame), number), shape[1:])
            )(frame)
        # A branch, not a `where` alone: side by side the two formulas share products, so XLA contracts other pairs to
        # fused multiply-adds, and plain DDIM would differ in the last bit.
        return jax.lax.cond(
            mixes.any(),
            lambda: _choose(
                mixes,
                temporal_step(step, latent, output, previous, temporal, fresh),
                ddim_step(step, latent, output, fresh),
            ),
            lambda: ddim_step(step, latent, output, fresh),
        )

    def alone(inputs):
        """A frame after the first phase."""
        start, condition, frame = inputs

        def next_step(number, state):
            latent, features = state
            output, features = output_of(number, 0, latent, condition, features)
            # None of these mixes; the branch alone keeps them apart from what makes the noise, to be rounded alike.
            never = jnp.broadcast_to(number >= second, (rows,))
            return step_of(number, latent, output, frame, never, carry.latent), features

        latent, _ = jax.lax.fori_loop(0, second, next_step, (start, no_features(start, condition)))
        return latent

    def next_frame(carry: Carry, inputs):
        start, condition, shot_start, there = inputs
        looks_back = carry.valid & ~shot_start
        lower, skips = second, jnp.zeros(rows, bool)
        if begin is not None:
            skips = looks_back & (begin > 0)
            lower = jnp.where((skips | ~there).all(), begin, second)
            noised = columns.signal[begin] * carry.latent + columns.noise[begin] * start
            start = _choose(skips, noised, start)

        def next_step(number, state):
            latent, features = state
            output, features = output_of(number, lower, latent, condition, features)
            mixes = looks_back & (number >= first) & (number <= last)
            result = step_of(number, latent, output, carry.frame, mixes, carry.latent)
            if begin is not None:
                result = _choose(skips & (number < begin), latent, result)
            return result, features

        latent, _ = jax.lax.fori_loop(lower, schedule.num_steps, next_step, (start, no_features(start, condition)))
        after = Carry(latent, jnp.ones(rows, bool), carry.frame + 1)
        return jax.tree.map(lambda new, old: _choose(there, new, old), after, carry), latent

    def if_there(function, skip):
        """`function` where any sequence has a frame; else `skip`, of the same arguments."""
        return lambda there, *arguments: jax.lax.cond(there.any(), function, skip, *arguments)

    numbers = carry.frame + jnp.arange(frames, dtype=jnp.int32)[:, None]
    starts = _in_batches(alone, (jnp.asarray(noise, jnp.float32), conditions, numbers), active, batch)
    guarded = if_there(next_frame, lambda carry, inputs: (carry, inputs[0]))
    carry, latents = jax.lax.scan(
        lambda carry, inputs: guarded(inputs[3], carry, inputs), carry, (starts, conditions, shot_starts, active)
    )
    return latents, carry


def _in_batches(alone: Callable, inputs: tuple, active: jax.Array, batch: int) -> jax.Array:
    """`alone` of each frame of `inputs`, so many at a time; frames of batches in which none is active stay as noise."""
    frames = len(active)
    batch = min(batch, frames)
    missing = -frames % batch
    padded = jax.tree.map(lambda x: jnp.concatenate([x, x[:1].repeat(missing, 0)]), inputs)
    active = jnp.pad(active, ((0, missing), (0, 0)))
    parts, there = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (padded, active))

    def one_part(part):
        inputs, there = part
        every = jax.vmap(alone) if batch > 1 else lambda inputs: alone(jax.tree.map(lambda x: x[0], inputs))[None]
        return jax.lax.cond(there.any(), every, lambda inputs: inputs[0], inputs)

    results = jax.lax.map(one_part, (parts, there))
    return results.reshape(-1, *results.shape[2:])[:frames]


def _flags(name: str, flags: jax.Array | None, default: bool, frames: int, rows: int) -> jax.Array:
    """bool [F, B] of what is given for all sequences or each."""
    if flags is None:
        return jnp.full((frames, rows), default)
    if flags.shape not in ((frames,), (frames, rows)):
        raise ValueError(f"{name} has shape {flags.shape}, expected ({frames},) or ({frames}, {rows})")
    return jnp.broadcast_to(jnp.asarray(flags, bool).reshape(frames, -1), (frames, rows))


def _choose(flags: jax.Array, chosen: jax.Array, other: jax.Array) -> jax.Array:
    """Rows of `chosen` where `flags` [B] is true, else of `other`."""
    return jnp.where(flags.reshape(-1, *(1,) * (chosen.ndim - 1)), chosen, other)
