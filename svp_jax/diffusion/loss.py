"""The training loss: noise is added by the table, the network's own prediction type is compared by MSE."""

import jax
import jax.numpy as jnp

from svp_jax.diffusion.schedule import TrainingSchedule


def add_noise(schedule: TrainingSchedule, latents: jax.Array, noise: jax.Array, timesteps: jax.Array) -> jax.Array:
    """x_t = sqrt(alpha_bar) latents + sqrt(1 - alpha_bar) noise; both [B, ...], timesteps int [B]."""
    signal, level = _levels(schedule, timesteps, latents.ndim)
    return signal * latents + level * noise


def velocity(schedule: TrainingSchedule, latents: jax.Array, noise: jax.Array, timesteps: jax.Array) -> jax.Array:
    """v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) latents (Salimans and Ho, arXiv 2202.00512)."""
    signal, level = _levels(schedule, timesteps, latents.ndim)
    return signal * noise - level * latents


def training_target(
    schedule: TrainingSchedule, latents: jax.Array, noise: jax.Array, timesteps: jax.Array
) -> jax.Array:
    """What the network must output for `add_noise(...)`: the noise or v, by `schedule.prediction_type`."""
    return noise if schedule.prediction_type == "epsilon" else velocity(schedule, latents, noise, timesteps)


def min_snr_weights(schedule: TrainingSchedule, timesteps: jax.Array, gamma: float) -> jax.Array:
    """Weights [B] of Hang et al., arXiv 2303.09556, which weigh the clean latent's error by min(SNR, gamma).

    In terms of the network's own output that is min(SNR, gamma) / SNR for epsilon and
    min(SNR, gamma) / (SNR + 1) for v.
    """
    snr = _at(schedule.snr, timesteps)
    if schedule.prediction_type == "epsilon":
        return jnp.minimum(1.0, gamma / snr)
    return jnp.minimum(snr, gamma) / (snr + 1.0)


def loss(
    schedule: TrainingSchedule,
    prediction: jax.Array,
    latents: jax.Array,
    noise: jax.Array,
    timesteps: jax.Array,
    min_snr_gamma: float | None = None,
) -> jax.Array:
    """Mean squared error between `prediction` and the training target, a float32 scalar.

    Args:
        prediction, latents, noise: [B, ...], all of one shape.
        timesteps: int [B].
        min_snr_gamma: None: every timestep counts the same; else weighted by `min_snr_weights` (usual: 5).

    Raises:
        ValueError: the shapes differ.
    """
    if not prediction.shape == latents.shape == noise.shape or timesteps.shape != latents.shape[:1]:
        raise ValueError(
            f"prediction {prediction.shape}, latents {latents.shape} and noise {noise.shape} must have one "
            f"shape [B, ...], and timesteps {timesteps.shape} must be [B]"
        )
    target = training_target(schedule, latents, noise, timesteps)
    errors = jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    errors = errors.mean(axis=tuple(range(1, errors.ndim)))
    if min_snr_gamma is not None:
        errors = errors * min_snr_weights(schedule, timesteps, min_snr_gamma)
    return errors.mean()


def _levels(schedule: TrainingSchedule, timesteps: jax.Array, ndim: int) -> tuple[jax.Array, jax.Array]:
    """(signal, noise) of each example, [B, 1, ...] to multiply [B, ...]; an index out of range gives NaN."""
    shape = (-1,) + (1,) * (ndim - 1)
    return tuple(_at(table, timesteps).reshape(shape) for table in (schedule.signal, schedule.noise))


def _at(table: jax.Array, timesteps: jax.Array) -> jax.Array:
    """Of each timestep, NaN where there is none; the table may be NumPy's and the timesteps traced."""
    return jnp.asarray(table).at[timesteps].get(mode="fill", fill_value=jnp.nan)
