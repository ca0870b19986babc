"""The measured training step, here: the step that `svp train` takes, on one device."""

from collections.abc import Callable

import jax
import numpy as np
import optax
from benchmarks.settings import ADAM_BETAS, CLIP_NORM, LEARNING_RATE, SCHEDULER, UNET_MULTIPLIER, WEIGHT_DECAY

from svp_jax.diffusion import TrainingSchedule, add_noise, loss
from svp_jax.models.controlnet import controlled
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.gradients import Numbers
from svp_jax.training.step.optimizer import make_optimizer
from svp_jax.training.step.packing import Packing
from svp_jax.training.step.train_step import first_state, make_train_step
from svp_jax.training.step.trainable import divide, flatten, stage_rules


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
    packing, devices = Packing.of(trained), Devices.of("pmap")
    optimizer = make_optimizer(CLIP_NORM, WEIGHT_DECAY, tuple(multipliers.items()), packing)
    train_step = make_train_step(loss_of, tuple(structures.items()), packing, optimizer, devices)
    state, frozen = first_state(packing.pack(trained), optimizer, False, devices), devices.place(frozen)
    rows = {**batch, "row": np.arange(len(batch["latents"]), dtype=np.uint32)}
    parts = [devices.place_rows({name: x[devices.rows(len(x), 1)[0]] for name, x in rows.items()})]
    numbers = Numbers(np.uint32(0), np.uint32(0), np.float32(LEARNING_RATE), np.float32(0))

    def step() -> float:
        nonlocal state
        state, scalars = train_step(state, frozen, parts, numbers)
        return float(scalars["loss"])

    def gradients() -> dict[str, np.ndarray]:
        # After one step the first moments are the clipped gradients times 1 - beta_1.
        moments = optax.tree.get(state.optimizer, "mu")
        return {name: np.asarray(x) / (1 - ADAM_BETAS[0]) for name, x in packing.unpack(moments).items()}

    return step, gradients
