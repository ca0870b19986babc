"""Noise, targets and losses against diffusers and numbers worked out by hand."""

import jax
import numpy as np
import pytest

from svp_jax.diffusion import (
    TrainingSchedule,
    add_noise,
    alphas_cumprod,
    loss,
    min_snr_weights,
    training_target,
    velocity,
)

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
V = {**SD, "prediction_type": "v_prediction"}
ZERO = {**V, "rescale_betas_zero_snr": True}
TIMESTEPS = np.array([0, 10, 333, 800, 999])


def batch(seed=0, shape=(5, 6, 3, 2)):
    return np.random.default_rng(seed).normal(size=(3, *shape)).astype("f")


@pytest.mark.parametrize("config", [SD, V, ZERO], ids=["epsilon", "v", "v-zero-snr"])
def test_noise_and_velocity_equal_diffusers(config):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    reference = diffusers.DDIMScheduler(**config)
    schedule = TrainingSchedule.from_config(config)
    latents, noise, _ = batch()
    arguments = torch.tensor(latents), torch.tensor(noise), torch.tensor(TIMESTEPS)
    # atol: diffusers' float32 table, most of it in 1 - alpha where alpha is near 1.
    np.testing.assert_allclose(
        add_noise(schedule, latents, noise, TIMESTEPS), reference.add_noise(*arguments), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        velocity(schedule, latents, noise, TIMESTEPS), reference.get_velocity(*arguments), rtol=0, atol=1e-5
    )


def test_target_is_the_schedules_own_prediction_type():
    latents, noise, _ = batch()
    epsilon, v = TrainingSchedule.from_config(SD), TrainingSchedule.from_config(V)
    np.testing.assert_array_equal(training_target(epsilon, latents, noise, TIMESTEPS), noise)
    np.testing.assert_array_equal(training_target(v, latents, noise, TIMESTEPS), velocity(v, latents, noise, TIMESTEPS))


def test_zero_terminal_snr_is_pure_noise_at_the_end():
    schedule = TrainingSchedule.from_config(ZERO)
    latents, noise, prediction = batch(shape=(1, 4, 4, 4))
    end = np.array([999])
    np.testing.assert_array_equal(add_noise(schedule, latents, noise, end), noise)
    np.testing.assert_array_equal(training_target(schedule, latents, noise, end), -latents)
    value, gradient = jax.value_and_grad(lambda p: loss(schedule, p, latents, noise, end))(prediction)
    np.testing.assert_allclose(value, ((prediction + latents) ** 2).mean(), rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("config", [SD, V], ids=["epsilon", "v"])
def test_min_snr_weights_are_those_of_the_paper(config):
    alphas = alphas_cumprod(config)[TIMESTEPS]
    snr = alphas / (1 - alphas)
    divisor = snr if config is SD else snr + 1
    weights = min_snr_weights(TrainingSchedule.from_config(config), TIMESTEPS, 5.0)
    np.testing.assert_allclose(weights, np.minimum(snr, 5.0) / divisor, rtol=1e-5)
    assert weights[0] < 0.01 < 0.2 < weights[2]  # clean steps count little


@pytest.mark.parametrize("config", [SD, V, ZERO], ids=["epsilon", "v", "v-zero-snr"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_loss_weighs_examples_not_pixels(config, gamma):
    """B, H, W and C all differ, and a wrong broadcast of the [B] weights would not equal the loop."""
    schedule = TrainingSchedule.from_config(config)
    latents, noise, prediction = batch()
    weights = np.ones(5) if gamma is None else np.asarray(min_snr_weights(schedule, TIMESTEPS, gamma))
    target = np.asarray(training_target(schedule, latents, noise, TIMESTEPS))
    expected = np.mean([weights[b] * np.mean((prediction[b] - target[b]) ** 2) for b in range(5)])
    # In a training step the timesteps are traced.
    value = jax.jit(lambda *arrays: loss(schedule, *arrays, gamma))(prediction, latents, noise, TIMESTEPS)
    assert value.shape == () and value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_loss_works_when_batch_equals_width():
    """Where a [B] weight would silently broadcast along W."""
    schedule = TrainingSchedule.from_config(SD)
    latents, noise, prediction = batch(shape=(5, 5, 5, 5))
    weights = np.asarray(min_snr_weights(schedule, TIMESTEPS, 5.0))
    expected = (((prediction - noise) ** 2).mean(axis=(1, 2, 3)) * weights).mean()
    np.testing.assert_allclose(loss(schedule, prediction, latents, noise, TIMESTEPS, 5.0), expected, rtol=1e-5)


def test_wrong_shapes_are_refused():
    schedule = TrainingSchedule.from_config(SD)
    latents, noise, prediction = batch()
    with pytest.raises(ValueError, match="timesteps"):
        loss(schedule, prediction, latents, noise, TIMESTEPS[:1])
    with pytest.raises(ValueError, match="prediction"):
        loss(schedule, prediction[..., :1], latents, noise, TIMESTEPS)


def test_timestep_out_of_range_gives_nan_instead_of_the_nearest():
    schedule = TrainingSchedule.from_config(SD)
    latents, noise, _ = batch(shape=(1, 2, 2, 1))
    assert np.isnan(add_noise(schedule, latents, noise, np.array([1000]))).all()
