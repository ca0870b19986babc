"""`svp train`: from captures and a base to an avatar."""

import dataclasses
import shutil
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from svp_jax.capture.capture import Capture
from svp_jax.diffusion import Schedule, TrainingSchedule
from svp_jax.errors import UserError
from svp_jax.face.conditions import condition_spec
from svp_jax.manifest import FACE, RUN, check_output, staged_folder, write_manifest
from svp_jax.models.controlnet import ControlNet, controlnet_from_unet
from svp_jax.models.layers import copy_of
from svp_jax.models.vae import VAE
from svp_jax.training.captures import describe, labels_of, open_captures
from svp_jax.training.config import TrainConfig, check
from svp_jax.training.devices import check_batch
from svp_jax.training.held_out import PREVIEW_FRAMES, held_out, spread
from svp_jax.training.latents import cached_latents
from svp_jax.training.loop import fit
from svp_jax.training.optimizer import OptimizerSettings
from svp_jax.training.run import avatar_without, check_same_run, check_same_settings, copy_parts
from svp_jax.training.stage import StagePreview, StageSamples, stage_loss
from svp_jax.training.trainable import stage_rules
from svp_jax.training.vae_tuning import person_vae
from svp_jax.training.views import COPY_PROMPT, Views, training_views
from svp_jax.weights.avatar import STAGES, part_hashes
from svp_jax.weights.base import TINY_BASE, Base, base_name, encode_prompts, load_base
from svp_jax.weights.folder import save_model


def train(
    captures: Path | Sequence[Path],
    base: str,
    out: Path,
    config: TrainConfig,
    stage: str = "both",
    force: bool = False,
) -> Path:
    """Trains an avatar; an interrupted run goes on where it stopped when it is called again.

    Args:
        captures: the folder of a finished capture, or of several of one person; the face that others move is the
            first one's.
        base: "tiny" or a folder in the diffusers layout.
        out: the avatar's folder; until it is finished, everything lies in `OUT.partial`.
        stage: "outlines", "details" or "both". One that a finished avatar `out` of the same base, capture and settings
            lacks is added to it.

    Raises:
        UserError: bad input, or an unfinished run in `OUT.partial` that was started with other settings.
    """
    check(config)
    names = STAGES if stage == "both" else (stage,)
    joined = None if force else avatar_without(Path(out), names)
    force = force or joined is not None
    check_output(out, "avatar", force)
    captures = open_captures([captures] if isinstance(captures, str | Path) else captures)
    opened = load_base(base)
    _check_before_start(opened, config, names)
    run = {
        "base": {"path": base_name(base), "sha256": opened.sha256},
        "captures": [describe(capture) for capture in captures],
        "stages": list(STAGES if joined else names),
        "config": dataclasses.asdict(config),
    }
    if opened.description:
        # Of a single file: which of its weights were taken, and what they predict.
        run["base"]["recognised"] = opened.description
    if joined:
        check_same_settings(Path(out), joined, run)
    with staged_folder(out, "avatar", force, resume=True) as folder:
        check_same_run(folder / RUN, run, out)
        if joined:
            copy_parts(Path(out), joined, folder)
        if opened.description:
            print(f"base: {opened.description}", file=sys.stderr)
        print(f"prompt: {config.prompt}", file=sys.stderr)
        views = training_views(captures, config.copies, config.seed)
        vae, ceiling = person_vae(views, opened, config, folder)
        for name in names:
            if not (folder / name / "controlnet" / "config.json").exists():
                _train_stage(name, views, opened, vae, config, folder)
        shutil.rmtree(folder / "work", ignore_errors=True)
        if (captures[0].folder / FACE).is_file():
            shutil.copy(captures[0].folder / FACE, folder / FACE)
        body = _manifest(run, config, captures, ceiling) | {"files": part_hashes(folder)}
        write_manifest(folder, "avatar", body)
    # Only now: without it an unfinished folder could not go on.
    (Path(out) / RUN).unlink()
    return Path(out)


def _check_before_start(base: Base, config: TrainConfig, names: tuple[str, ...]) -> None:
    """Raises UserError for settings that this base or machine refuses, before anything is written."""
    devices = jax.local_device_count()
    check_batch(config.batch_size, devices)
    if config.vae.trainable != "none":
        check_batch(config.vae.batch_size, devices, "vae.batch_size")
    if config.vae.trainable == "all":
        locked = [name for name in names if getattr(config, name).trainable == "locked"]
        if locked:
            raise UserError(
                f"config: vae.trainable is all, but {' and '.join(locked)} is locked: a UNet that is not trained "
                "cannot learn the new latents; use vae.trainable decoder"
            )
        if base.path != TINY_BASE:
            warnings.warn(
                "vae.trainable is all: the latent space moves away from what this base's UNet knows; decoder keeps it",
                stacklevel=2,
            )
    encode_prompts(base, _prompts(config))
    TrainingSchedule.from_config(base.scheduler_config)
    try:
        Schedule.from_config(base.scheduler_config, config.preview_steps)
    except UserError as error:
        raise UserError(f"config: preview_steps is {config.preview_steps}: {error}") from None


def _prompts(config: TrainConfig) -> list[str]:
    """Of the person's own frames, of their copies, and none."""
    return [config.prompt, config.prompt + COPY_PROMPT if config.copies.per_frame else config.prompt, ""]


def _manifest(run: dict, config: TrainConfig, captures: Sequence[Capture], ceiling: dict) -> dict:
    return {
        **run,
        "prompt": config.prompt,
        "stages": {name: dataclasses.asdict(getattr(config, name)) for name in run["stages"]},
        "condition": condition_spec(config.window),
        "labels": labels_of(captures),
        "temporal": {
            "current": config.temporal_current,
            "previous": config.temporal_previous,
            "noise": config.temporal_noise,
            "tau": config.temporal_tau,
        },
        "vae_tuned": config.vae.trainable != "none",
        "vae_round_trip": ceiling,
    }


def _first_controlnet(base: Base, channels: int, seed: int) -> ControlNet:
    """The base's own ControlNet where it has one for as many channels, else a copy of the UNet's encoder."""
    own = base.controlnet
    if own is not None and own.config.conditioning_channels == channels:
        return copy_of(own)
    if own is not None:
        warnings.warn(
            f"the base's controlnet reads {own.config.conditioning_channels} condition channels, this avatar has "
            f"{channels}: training starts from the unet's encoder instead",
            stacklevel=2,
        )
    return controlnet_from_unet(base.unet, channels, nnx.Rngs(seed))


def _train_stage(name: str, views: Views, base: Base, vae: VAE, config: TrainConfig, folder: Path) -> None:
    stage = getattr(config, name)
    work, notes = folder / "work" / name, folder / "training" / name
    work.mkdir(parents=True, exist_ok=True)
    latents = cached_latents(
        work / "latents", vae, views.source_hash(), partial(views.targets, name), np.arange(len(views))
    )
    text, copy_text, no_text = np.asarray(encode_prompts(base, _prompts(config)))
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
        {
            "controlnet": _first_controlnet(base, channels, config.seed),
            "unet": base.unet,
        },
        stage_rules(stage.trainable, stage.unet_learning_rate / stage.learning_rate),
        stage_loss(
            base.scheduler_config,
            vae.config.scaling_factor,
            config.timestep_shift,
            config.min_snr_gamma or None,
        ),
        samples,
        work,
        steps=stage.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        settings=OptimizerSettings.of(config, stage.learning_rate),
        save_every=config.save_every,
        preview_every=config.preview_every,
        preview=StagePreview(
            notes,
            spread(held_out(views.captures), PREVIEW_FRAMES),
            name,
            vae,
            Schedule.from_config(base.scheduler_config, config.preview_steps),
            text,
            config.window,
            config.seed,
        ),
        loader_processes=config.loader_processes,
    )
    notes.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / "log.jsonl", notes / "log.jsonl")
    if stage.trainable != "locked":
        save_model(models["unet"], folder / name / "unet")
    # Saved last: its config.json is what says that the stage is finished.
    save_model(models["controlnet"], folder / name / "controlnet")
    shutil.rmtree(work)
