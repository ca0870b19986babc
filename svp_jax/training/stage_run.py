"""One stage from its latents to its networks on disk."""

import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np

from svp_jax.diffusion import Schedule
from svp_jax.face.conditions import condition_spec
from svp_jax.models.vae import VAE
from svp_jax.training import hosts
from svp_jax.training.config import TrainConfig
from svp_jax.training.data.held_out import scored_frames
from svp_jax.training.data.latents import Latents, cached_latents
from svp_jax.training.data.views import COPY_PROMPT, Views
from svp_jax.training.first_controlnet import first_controlnet
from svp_jax.training.fit import fit
from svp_jax.training.settings import RunSettings
from svp_jax.training.stage import StageSamples, stage_loss
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.trainable import stage_rules
from svp_jax.training.watching.log import copy_log
from svp_jax.training.watching.preview import StagePreview
from svp_jax.weights.base import Base, encode_prompts
from svp_jax.weights.folder import save_model


def is_trained(name: str, folder: Path) -> bool:
    """Whether the stage lies finished in the unfinished avatar `folder`."""
    return (folder / name / "controlnet" / "config.json").exists()


def train_stage(
    name: str, views: Views, base: Base, vae: VAE, config: TrainConfig, folder: Path, devices: Devices
) -> None:
    """Trains the stage `name` on `devices`; one that was interrupted goes on.

    Args:
        folder: the unfinished avatar; gets NAME/ with the networks and training/NAME/ with log and previews.
    """
    # What is not placed on purpose (encoding, previews) runs where the stage does.
    with jax.default_device(devices.mesh.local_devices[0]):
        stage = getattr(config, name)
        work, notes = folder / "work" / name, folder / "training" / name
        latents = _latents(name, views, vae, work)
        text, copy_text, no_text = np.asarray(encode_prompts(base, prompts(config)))
        samples = StageSamples(
            views,
            name,
            latents,
            text,
            copy_text,
            no_text,
            config.window,
            config.degrade_parsing and name == "details",
            config.prompt_dropout,
            config.batch_size,
            config.seed,
        )
        channels = condition_spec(config.window)[name]["channels"]
        models = fit(
            name,
            {"controlnet": first_controlnet(base, stage.controlnet, name, channels, config.seed), "unet": base.unet},
            stage_rules(stage.trainable, stage.unet_learning_rate / stage.learning_rate),
            stage_loss(
                base.scheduler_config,
                vae.config.scaling_factor,
                config.timestep_shift,
                config.min_snr_gamma or None,
            ),
            samples,
            work,
            RunSettings.of(config, stage.steps, stage.learning_rate),
            devices,
            StagePreview(
                notes,
                scored_frames(views.captures),
                name,
                vae,
                Schedule.from_config(base.scheduler_config, config.preview_steps),
                text,
                config.window,
                config.seed,
            ),
        )

        def finish() -> None:
            copy_log(work, notes)
            if stage.trainable != "locked":
                save_model(models["unet"], folder / name / "unet")
            # Saved last: its config.json is what says that the stage is finished.
            save_model(models["controlnet"], folder / name / "controlnet")
            shutil.rmtree(work)

        hosts.first_does(finish)


def prompts(config: TrainConfig) -> list[str]:
    """Of the person's own frames, of their copies, and none."""
    return [config.prompt, config.prompt + COPY_PROMPT if config.copies.per_frame else config.prompt, ""]


def _latents(name: str, views: Views, vae: VAE, work: Path) -> Latents:
    """Made by the first process, read by all."""

    folder = work / "latents"

    def make() -> None:
        work.mkdir(parents=True, exist_ok=True)
        cached_latents(folder, vae, views.source_hash(), partial(views.targets, name), np.arange(len(views)))

    hosts.first_does(make)
    return Latents.open(folder)
