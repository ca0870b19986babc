"""Schedules against diffusers' DDIMScheduler, pinned timesteps, and refusals."""

import json

import numpy as np
import pytest

from svp_jax.diffusion import Schedule, TrainingSchedule, alphas_cumprod
from svp_jax.diffusion.schedule import SchedulerConfig, inference_timesteps
from svp_jax.errors import UserError

SD = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}


def diffusers_scheduler(**changes):
    diffusers = pytest.importorskip("diffusers")
    fields = {k: v for k, v in SD.items() if k not in ("_class_name", "skip_prk_steps")}
    return diffusers.DDIMScheduler(**{**fields, **changes})


def test_stable_diffusion_timesteps_are_pinned():
    assert Schedule.from_config(SD, 20).timesteps.tolist() == list(range(951, 0, -50))
    assert Schedule.from_config(SD, 3).timesteps.tolist() == [667, 334, 1]
    trailing = Schedule.from_config({**SD, "timestep_spacing": "trailing"}, 4)
    assert trailing.timesteps.tolist() == [999, 749, 499, 249]
    assert Schedule.from_config({**SD, "timestep_spacing": "linspace"}, 4).timesteps.tolist() == [
        999,
        666,
        333,
        0,
    ]
    assert Schedule.from_config(SD, 1).timesteps.tolist() == [1]


def test_alphas_are_float64_and_those_of_stable_diffusion():
    alphas = alphas_cumprod(SD)
    assert alphas.dtype == np.float64
    np.testing.assert_allclose(alphas[[0, 999]], [0.99915, 0.00466010], rtol=1e-6)
    # diffusers multiplies 1000 factors up in float32.
    np.testing.assert_allclose(alphas, diffusers_scheduler().alphas_cumprod.numpy(), rtol=5e-6)


def test_linear_betas_equal_diffusers():
    changes = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
    reference = diffusers_scheduler(**changes).alphas_cumprod.numpy()
    np.testing.assert_allclose(alphas_cumprod({**SD, **changes}), reference, rtol=2e-5)


def test_zero_terminal_snr_ends_at_zero_and_equals_diffusers():
    alphas = alphas_cumprod({**SD, **ZERO_SNR})
    assert alphas[-1] == 0
    np.testing.assert_allclose(alphas[0], 0.99915, rtol=1e-12)
    # Rounding of the float32 product in diffusers, seen where alphas are small.
    np.testing.assert_allclose(alphas, diffusers_scheduler(**ZERO_SNR).alphas_cumprod.numpy(), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("offset", [0, 1])
def test_timesteps_equal_diffusers_for_every_step_count(spacing, offset):
    changes = {"timestep_spacing": spacing, "steps_offset": offset}
    reference = diffusers_scheduler(**changes)
    config = SchedulerConfig.from_json({**SD, **changes})
    for num_steps in range(1, 1000):
        reference.set_timesteps(num_steps)
        # For a few counts numpy's arange, and so diffusers, yields one step too many, to timestep -1.
        expected = reference.timesteps.numpy()[:num_steps]
        np.testing.assert_array_equal(inference_timesteps(config, num_steps), expected, err_msg=str(num_steps))
        assert (expected >= 0).all()


def test_other_samplers_configs_are_a_source_of_betas(tmp_path):
    euler = {
        "_class_name": "EulerDiscreteScheduler",
        "beta_schedule": "scaled_linear",
        "use_karras_sigmas": True,
    }
    euler |= {"beta_start": 0.00085, "beta_end": 0.012}
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(euler))
    schedule = Schedule.from_config(path, 20)
    np.testing.assert_array_equal(schedule.timesteps, np.arange(950, -1, -50))
    np.testing.assert_array_equal(alphas_cumprod(path), alphas_cumprod(SD))
    assert schedule.signal_prev[-1] == np.float32(np.sqrt(alphas_cumprod(SD)[0]))


def test_training_schedule_holds_the_same_table():
    schedule = TrainingSchedule.from_config(SD)
    alphas = alphas_cumprod(SD)
    assert schedule.num_timesteps == 1000
    np.testing.assert_allclose(schedule.signal, np.sqrt(alphas), rtol=1e-7)
    np.testing.assert_allclose(schedule.noise, np.sqrt(1 - alphas), rtol=1e-7)
    np.testing.assert_allclose(schedule.snr, alphas / (1 - alphas), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beta_schedule": "sigmoid"}, ["beta_schedule", "'sigmoid'", "linear, scaled_linear"]),
        ({"prediction_type": "sample"}, ["prediction_type", "'sample'", "epsilon, v_prediction"]),
        ({"timestep_spacing": "log"}, ["timestep_spacing", "'log'", "leading, trailing, linspace"]),
        ({"clip_sample": True}, ["clip_sample", "false"]),
        ({"thresholding": True}, ["thresholding", "false"]),
        ({"trained_betas": [0.1, 0.2]}, ["trained_betas"]),
        ({"rescale_betas_zero_snr": True}, ["rescale_betas_zero_snr", "v_prediction"]),
        ({"num_train_timesteps": 0}, ["num_train_timesteps is 0", "1 or more"]),
        ({"beta_end": 1.5}, ["beta_end is 1.5", "0 to 1"]),
        ({"beta_start": "small"}, ["beta_start is 'small'", "allowed are numbers"]),
        ({"steps_offset": -1}, ["steps_offset is -1", "0 or more"]),
    ],
)
def test_values_that_would_have_to_be_honoured_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        Schedule.from_config({**SD, **changes}, 20)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_ddim_config_without_clip_sample_means_clipping():
    config = {k: v for k, v in SD.items() if k != "clip_sample"}
    Schedule.from_config(config, 20)
    with pytest.raises(UserError, match="clip_sample"):
        Schedule.from_config({**config, "_class_name": "DDIMScheduler"}, 20)


@pytest.mark.parametrize("num_steps", [0, -3, 1001])
def test_step_counts_out_of_range_are_refused(num_steps):
    with pytest.raises(UserError, match=f"{num_steps} denoising steps: allowed are 1 to 1000"):
        Schedule.from_config(SD, num_steps)


def test_step_past_the_table_is_refused_instead_of_clamped():
    with pytest.raises(UserError, match="1000, past the last one, 999"):
        Schedule.from_config(SD, 1000)
    assert Schedule.from_config({**SD, "steps_offset": 0}, 1000).timesteps[0] == 999


def test_eta_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"eta is 1\.5"):
        Schedule.from_config(SD, 20, eta=1.5)


def test_unreadable_config_files_are_named(tmp_path):
    missing = tmp_path / "scheduler_config.json"
    with pytest.raises(UserError, match=r"scheduler_config\.json: cannot read"):
        Schedule.from_config(missing, 20)
    missing.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        Schedule.from_config(missing, 20)
    missing.write_text("[]")
    with pytest.raises(UserError, match="expected a JSON object"):
        Schedule.from_config(str(missing), 20)
