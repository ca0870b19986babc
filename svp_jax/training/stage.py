"""One stage of training: its samples and its loss."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.diffusion import TrainingSchedule, add_noise, loss
from svp_jax.diffusion.schedule import SchedulerConfig
from svp_jax.models.controlnet import controlled
from svp_jax.training.data.batches import batch_indices, sample_rng
from svp_jax.training.data.latents import Latents
from svp_jax.training.data.loader import ORIGIN
from svp_jax.training.data.views import Views
from svp_jax.training.step.gradients import LossOf


@dataclass(frozen=True)
class StageSamples:
    """The training samples of one stage; called with a step and rows it gives these rows of that step's global batch.

    Attributes:
        latents: of the views' targets.
        text, copy_text, no_text: features [T, D] of the prompt, of the prompt of copies and of the empty one.
    """

    views: Views
    stage: str
    latents: Latents
    text: np.ndarray
    copy_text: np.ndarray
    no_text: np.ndarray
    window: int
    degrade: bool
    prompt_dropout: float
    batch_size: int
    seed: int

    def __call__(self, step: int, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
        """Of b rows in 0 .. batch_size - 1: mean, std [b, h, w, c], condition uint8 [b, S, S, C], text [b, T, D], and
        `ORIGIN`."""
        chosen = batch_indices(self.seed, step, len(self.views), self.batch_size)[rows]
        rngs = [sample_rng(self.seed, step, int(row)) for row in np.arange(self.batch_size)[rows]]
        empty = np.array([rng.random() < self.prompt_dropout for rng in rngs])
        copied = self.views.changed(chosen)
        mean, std = self.latents.read(chosen)
        return {
            "mean": mean,
            "std": std,
            "condition": self.views.condition(self.stage, chosen, self.window, rngs if self.degrade else None),
            "text": np.select([empty[:, None, None], copied[:, None, None]], [self.no_text, self.copy_text], self.text),
            ORIGIN: self.views.origins(chosen),
        }


def noised_latents(
    schedule: TrainingSchedule, scaling_factor: float, timestep_shift: float, batch: dict, keys: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """A training example for each key [b]: a posterior sample, noise and a random timestep.

    Args:
        timestep_shift: 1 draws timesteps uniformly, more draws noisier ones: s u / (1 + (s - 1) u) of the schedule
            for uniform u (Esser et al., arXiv 2403.03206, equation 23).
        batch: unscaled `mean` and `std` [b, h, w, c] of the posterior.

    Returns:
        noisy, clean (scaled) and noise [b, h, w, c], timesteps int [b].
    """

    def draw(key: jax.Array, mean: jax.Array):
        posterior, noise, time = jax.random.split(key, 3)
        return (
            jax.random.normal(posterior, mean.shape),
            jax.random.normal(noise, mean.shape),
            jax.random.uniform(time),
        )

    posterior, noise, u = jax.vmap(draw)(keys, batch["mean"])
    share = timestep_shift * u / (1.0 + (timestep_shift - 1.0) * u)
    # Rounding may reach 1.
    timesteps = jnp.minimum((share * schedule.num_timesteps).astype(jnp.int32), schedule.num_timesteps - 1)
    clean = (batch["mean"] + batch["std"] * posterior) * scaling_factor
    return add_noise(schedule, clean, noise, timesteps), clean, noise, timesteps


@functools.lru_cache(maxsize=1)
def stage_loss(
    scheduler: SchedulerConfig, scaling_factor: float, timestep_shift: float, min_snr_gamma: float | None
) -> LossOf:
    """The loss of a stage: noise a posterior sample to a random timestep, compare the prediction.

    Equal arguments give the same function, so that both stages share one compiled step.
    """
    schedule = TrainingSchedule.from_config(scheduler)

    def loss_of(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
        noisy, clean, noise, timesteps = noised_latents(schedule, scaling_factor, timestep_shift, batch, keys)
        prediction = controlled(
            models["unet"], models["controlnet"], noisy, timesteps, batch["text"], batch["condition"]
        )
        return loss(schedule, prediction, clean, noise, timesteps, min_snr_gamma)

    return loss_of
