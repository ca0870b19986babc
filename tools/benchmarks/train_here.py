"""The measured training step, here: the step that `svp train` takes, on one device."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from benchmarks.settings import ADAM_BETAS, CLIP_NORM, LEARNING_RATE, SCHEDULER, UNET_MULTIPLIER, WEIGHT_DECAY

from svp_jax.diffusion import TrainingSchedule, add_noise, loss
from svp_jax.models.controlnet import controlled
from svp_jax.training.devices import replicate, shard
from svp_jax.training.optimizer import make_optimizer
from svp_jax.training.step import make_train_step
from svp_jax.training.trainable import divide, flatten, stage_rules


def step_here(models: dict, batch: dict[str, np.ndarray]) -> tuple[Callable[[], float], Callable[[], dict]]:
    """A training step on `batch` (as `train.make_batch` makes it) that can be taken again and again.

    Returns:
        step() -> its loss, and after the first step gradients() -> the clipped gradients by the parameters' names.
    """
    schedule = TrainingSchedule.from_config(SCHEDULER)

    def loss_of(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
        latents, noise, timesteps = batch["latents"], batch["noise"], batch["timesteps"]
        noisy = add_noise(schedule, latents, noise, timesteps)
        prediction = controlled(
            models["unet"], models["controlnet"], noisy, timesteps, batch["text"], batch["condition"]
        )
        return loss(schedule, prediction, latents, noise, timesteps)

    structures, flat = flatten(models)
    trained, frozen, multipliers = divide(flat, stage_rules("unlocked", UNET_MULTIPLIER))
    optimizer = make_optimizer(CLIP_NORM, WEIGHT_DECAY, tuple(multipliers.items()))
    train_step = make_train_step(loss_of, tuple(structures.items()), optimizer)
    trained, opt_state = replicate(trained), replicate(optimizer.init(trained))
    sample_index = shard(np.arange(len(batch["latents"]), dtype=np.uint32))
    rest = (replicate(frozen), jax.tree.map(jax.numpy.asarray, shard(batch)), sample_index)
    numbers = (np.uint32(0), np.uint32(0), np.float32(LEARNING_RATE))

    def step() -> float:
        nonlocal trained, opt_state
        trained, opt_state, scalars = train_step(trained, opt_state, *rest, *numbers)
        return float(scalars["loss"][0])

    def gradients() -> dict[str, np.ndarray]:
        # After one step the first moments are the clipped gradients times 1 - beta_1.
        moments = optax.tree.get(opt_state, "mu")
        return {name: np.asarray(moment[0]) / (1 - ADAM_BETAS[0]) for name, moment in moments.items()}

    return step, gradients
