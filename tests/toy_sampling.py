"""A stand-in for a network, and the order of denoising as plain loops in float64, for tests of the sampler."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.diffusion import Reuse, sample_sequence

SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
SHAPE = (2, 4, 4, 3)  # B, h, w, c


def inputs(frames, seed=0, shape=SHAPE):
    """Noise and conditions, each [frames, *shape]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(frames, *shape)).astype("f"), rng.normal(size=(frames, *shape)).astype("f")


def network(latent, timestep, condition, array=jnp):
    """Stands for a network: depends on all three inputs, and mixes pixels and channels, not what is side by side."""
    rolled = array.roll(latent, 1, axis=1) * 0.3 - array.roll(latent, 1, axis=3) * 0.2
    return array.tanh(latent * 0.6 + rolled + condition * 0.5) + timestep * 1e-4


def features_of(latent, timestep, condition, array=jnp):
    """What of a network changes slowly."""
    return array.roll(latent, 2, axis=2) * 0.4 + condition * 0.2 + timestep * 1e-4


def by_features(latent, timestep, condition, features, array=jnp):
    """The output by these features, of any step."""
    return network(latent + features, timestep, condition, array)


def predict_with_features(latent, timestep, condition):
    features = features_of(latent, timestep, condition)
    return by_features(latent, timestep, condition, features), features


sample = jax.jit(partial(sample_sequence, network), static_argnames="batch")


@partial(jax.jit, static_argnames="batch")
def sample_with_reuse(schedule, noise, conditions, temporal, *arguments, every, **settings):
    reuse = Reuse(by_features, jnp.arange(schedule.num_steps) % every == 0)
    return sample_sequence(
        predict_with_features, schedule, noise, conditions, temporal, *arguments, reuse=reuse, **settings
    )


@partial(jax.jit, static_argnames="shape")
def fresh_noise(key, frame, step, shape):
    return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, frame), step), shape)


def one_by_one(
    schedule,
    noise,
    conditions,
    temporal,
    *,
    before=None,
    starts=(),
    came_before=0,
    key=None,
    begin=0,
    every=None,
    calls=None,
):
    """Latents float64 [F, 1, h, w, c] of one sequence, frame after frame and step after step.

    Args:
        before: latent of the frame before. came_before: how many there are.
        starts: the frames that do not look back.
        begin, every: as in `sample_sequence` and `Reuse`; None computes everything at each step.
        calls: a list that gets (frame, step, whether its features are those of a step before).
    """
    columns = jax.tree.map(lambda column: np.asarray(column, np.float64), schedule)
    count = schedule.num_steps
    weights = [float(weight) for weight in (temporal.current, temporal.previous, temporal.noise)]
    mixed = range(count)[round(float(temporal.tau) * (count - 1)) : round(float(temporal.tau_end) * (count - 1)) + 1]
    if weights == [1, 0, 1]:
        mixed = ()
    # Where the first phase ends, after which features are computed anew.
    second = mixed[0] if mixed and not begin else 0
    latents = []
    for frame, start in enumerate(noise):
        previous = None if frame in starts else before
        x = start.astype(np.float64)
        lower = begin if previous is not None else 0
        if lower:
            x = columns.signal[lower] * previous + columns.noise[lower] * x
        features = None
        for i in range(lower, count):
            timestep = schedule.timesteps[i]
            if every is None:
                output = network(x, timestep, conditions[frame], np)
            else:
                again = i % every != 0 and i not in (second, begin)
                if not again:
                    features = features_of(x, timestep, conditions[frame], np)
                if calls is not None:
                    calls.append((frame, i, again))
                output = by_features(x, timestep, conditions[frame], features, np)
            if schedule.prediction_type == "epsilon":
                clean, noisy = (x - columns.noise[i] * output) / columns.signal[i], output
            else:
                clean = columns.signal[i] * x - columns.noise[i] * output
                noisy = columns.signal[i] * output + columns.noise[i] * x
            rest = columns.direction[i] * noisy
            if schedule.stochastic:
                rest = rest + columns.sigma[i] * np.asarray(fresh_noise(key, came_before + frame, i, start.shape[1:]))
            if previous is not None and i in mixed:
                clean, rest = weights[0] * clean + weights[1] * previous, weights[2] * rest
            x = columns.signal_prev[i] * clean + rest
        latents.append(x)
        before = x
    return np.stack(latents)
