"""Noise schedules, DDIM, the temporal sampler and the losses; knows nothing of models."""

from svp_jax.diffusion.ddim import TemporalWeights, ddim_step, temporal_step
from svp_jax.diffusion.guidance import guide
from svp_jax.diffusion.loss import add_noise, loss, min_snr_weights, training_target, velocity
from svp_jax.diffusion.sampler import Carry, Reuse, sample_sequence
from svp_jax.diffusion.schedule import Schedule, SchedulerConfig, TrainingSchedule, alphas_cumprod

__all__ = [
    "Carry",
    "Reuse",
    "Schedule",
    "SchedulerConfig",
    "TemporalWeights",
    "TrainingSchedule",
    "add_noise",
    "alphas_cumprod",
    "ddim_step",
    "guide",
    "loss",
    "min_snr_weights",
    "sample_sequence",
    "temporal_step",
    "training_target",
    "velocity",
]
