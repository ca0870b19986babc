"""One stage of training: its samples, its loss and its previews."""

import functools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.capture.images import write_sheet
from svp_jax.diffusion import Schedule, TemporalWeights, TrainingSchedule, add_noise, loss, sample_sequence
from svp_jax.diffusion.schedule import SchedulerConfig
from svp_jax.models.controlnet import controlled
from svp_jax.models.vae import to_uint8
from svp_jax.training.batches import batch_indices, sample_rng
from svp_jax.training.latents import Latents
from svp_jax.training.step import LossOf
from svp_jax.training.views import Views


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
        """mean, std [b, h, w, c], condition uint8 [b, S, S, C], text [b, T, D] of b rows in 0 .. batch_size - 1."""
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


class StagePreview:
    """Writes `preview_STEP.png`: target, condition and sample of a few fixed frames, from the same noise.

    Args:
        folder: where the pictures go.
        views: the frames shown.
    """

    def __init__(
        self,
        folder: Path,
        views: Views,
        stage: str,
        vae: nnx.Module,
        schedule: Schedule,
        text: np.ndarray,
        window: int,
        seed: int,
    ):
        self.folder = folder
        numbers = np.arange(len(views))
        self.target = views.targets(stage, numbers)
        self.condition = views.condition(stage, numbers, window)
        self.vae, self.schedule = vae, schedule
        self.text = np.broadcast_to(text, (len(views), *text.shape))
        self.key = jax.random.key(seed)

    def __call__(self, step: int, models: dict[str, nnx.Module]) -> None:
        graph, parameters = nnx.split((models["controlnet"], models["unet"], self.vae))
        images = _sample(graph, parameters, self.schedule, self.text, self.condition, self.key)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The first three channels of a condition are a picture in both stages.
        rows = (self.target, self.condition[..., :3], np.asarray(images))
        write_sheet(self.folder / f"preview_{step:06d}.png", rows)


@functools.partial(jax.jit, static_argnames="graph")
def _sample(graph, parameters, schedule, text, condition, key) -> jax.Array:
    """Independent frames uint8 [n, S, S, 3] by plain DDIM."""
    controlnet, unet, vae = nnx.merge(graph, parameters)

    def predict(latent, timestep, _):
        return controlled(unet, controlnet, latent, timestep, text, condition)

    count, height, width = condition.shape[:3]
    noise = jax.random.normal(
        key, (1, 1, height // vae.config.factor, width // vae.config.factor, unet.config.in_channels)
    )
    noise = jnp.broadcast_to(noise, (1, count, *noise.shape[2:]))
    latents, _ = sample_sequence(predict, schedule, noise, None, TemporalWeights.plain())
    return to_uint8(vae.decode(latents[0] / vae.config.scaling_factor))
