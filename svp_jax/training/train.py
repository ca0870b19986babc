"""`svp train`: from captures and a base to an avatar."""

import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

import jax
import jax.numpy as jnp

from svp_jax.capture.capture import Capture
from svp_jax.diffusion import Schedule, TrainingSchedule
from svp_jax.errors import Stopped, UserError
from svp_jax.face.conditions import condition_spec
from svp_jax.manifest import FACE, RUN, check_output, write_manifest
from svp_jax.models.vae import VAE
from svp_jax.training import hosts
from svp_jax.training.config import TrainConfig, check
from svp_jax.training.data.captures import describe, labels_of, open_captures
from svp_jax.training.data.views import Views, training_views
from svp_jax.training.first_controlnet import check_fits, describe_controlnet, open_controlnet
from svp_jax.training.run import HOW, avatar_without, check_same_settings, copy_parts
from svp_jax.training.saving.stop import StopRequest, stop_on_signals
from svp_jax.training.stage_run import is_trained, prompts, train_stage
from svp_jax.training.step.devices import Devices, check_batches, find_devices
from svp_jax.training.vae_tuning import person_vae
from svp_jax.unfinished import check_same_run
from svp_jax.weights.avatar import STAGES, part_hashes
from svp_jax.weights.base import TINY_BASE, Base, base_name, encode_prompts, load_base

# Where neither the config nor the capture describes the person.
A_PERSON = "a portrait of a person"


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
    config = dataclasses.replace(config, prompt=config.prompt or captures[0].manifest.get("prompt") or A_PERSON)
    devices = find_devices(config.device)
    with _beside_the_devices():
        opened = load_base(base, dtype=jnp.dtype(config.precision))
    _check_before_start(opened, config, names, len(devices))
    run = {
        "base": {"path": base_name(base), "sha256": opened.sha256},
        "captures": [describe(capture) for capture in captures],
        "stages": list(STAGES if joined else names),
        "config": dataclasses.asdict(config),
    }
    if given := {name: stage.controlnet for name in names if (stage := getattr(config, name)).controlnet}:
        run["controlnets"] = {name: describe_controlnet(path) for name, path in given.items()}
    if opened.description:
        # Of a single file: which of its weights were taken, and what they predict.
        run["base"]["recognised"] = opened.description
    if joined:
        check_same_settings(Path(out), joined, run)
    with hosts.shared_folder(out, "avatar", force) as folder:

        def begin() -> None:
            check_same_run(folder / RUN, run, out, HOW, "remove it to start anew")
            if joined:
                copy_parts(Path(out), joined, folder)
            if opened.description:
                print(f"base: {opened.description}", file=sys.stderr)
            print(f"prompt: {config.prompt}", file=sys.stderr)

        hosts.first_does(begin)
        views = training_views(captures, config.copies, config.seed)
        vae, ceiling = person_vae(views, opened, config, folder, Devices.of(config.parallel, devices))
        _train_stages(names, views, opened, vae, config, folder, devices)

        def finish() -> None:
            shutil.rmtree(folder / "work", ignore_errors=True)
            if (captures[0].folder / FACE).is_file():
                shutil.copy(captures[0].folder / FACE, folder / FACE)
            body = _manifest(run, config, captures, ceiling) | {"files": part_hashes(folder)}
            write_manifest(folder, "avatar", body)

        hosts.first_does(finish)
    if hosts.is_first():
        # Only now: without it an unfinished folder could not go on.
        (Path(out) / RUN).unlink()
    return Path(out)


def _beside_the_devices() -> contextlib.AbstractContextManager:
    """Where a base is read to: the machine's memory, as what is trained gets its place on the devices later."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        # JAX_PLATFORMS leaves the CPU out.
        return contextlib.nullcontext()


def _train_stages(
    names: Sequence[str],
    views: Views,
    base: Base,
    vae: VAE,
    config: TrainConfig,
    folder: Path,
    devices: Sequence[jax.Device],
) -> None:
    """Those that are not finished: at once, each on half of the devices, where that can be; else in turn."""
    names = [name for name in names if not hosts.as_first_says(is_trained(name, folder))]
    halves = _halves(config, devices) if len(names) == 2 else None
    if halves is None:
        if len(names) == 2 and len(devices) > 1:
            hosts.say(
                "the stages are trained one after the other; both at once takes stages_at_once, pmap, one process, an "
                "even number of devices and a batch_size that divides by half of them"
            )
        for name in names:
            train_stage(name, views, base, vae, config, folder, Devices.of(config.parallel, devices))
        return
    print(f"both stages at once, each on {len(halves[0])} devices", file=sys.stderr)
    with stop_on_signals() as stop, ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(train_stage, name, views, base, vae, config, folder, Devices.of(config.parallel, half))
            for name, half in zip(names, halves, strict=True)
        ]
        ended = _first_end(runs, stop)
        failed = [run for run in ended if run.exception() is not None]
        if failed and not stop.requested:
            # What the other has done is saved, and this one's error is told.
            stop.signal = signal.SIGTERM
        for run in failed + runs:
            run.result()


def _first_end(runs: Sequence[Future], stop: StopRequest) -> set[Future]:
    """Waits until all have ended or one has failed; returns those that have ended.

    What encodes or compiles looks at no flag and loses nothing: when the loops have saved, the process ends without it.
    """
    ended, running = set(), set(runs)
    while running:
        # Only for those that run: one that has stopped would end every wait at once.
        new, running = wait(running, timeout=1, return_when=FIRST_EXCEPTION)
        ended |= new
        errors = [run.exception() for run in ended if run.exception() is not None]
        if any(not isinstance(error, Stopped) for error in errors):
            break
        if running and stop.requested and not stop.loops:
            told = errors[0] if errors else "stopped"
            print(f"svp: {told}; the same command goes on", file=sys.stderr, flush=True)
            os._exit(128 + stop.signal)
    return ended


def _halves(config: TrainConfig, devices: Sequence[jax.Device]) -> tuple[Sequence[jax.Device], ...] | None:
    """The devices of each stage, where both can be trained at once."""
    half = len(devices) // 2
    fits = len(devices) > 1 and len(devices) % 2 == 0 and config.batch_size % (half * config.accumulation) == 0
    if not (config.stages_at_once and config.parallel == "pmap" and jax.process_count() == 1 and fits):
        return None
    return devices[:half], devices[half:]


def _check_before_start(base: Base, config: TrainConfig, names: tuple[str, ...], device_count: int) -> None:
    """Raises UserError for settings that this base or machine refuses, before anything is written."""
    batches = {"batch_size": (config.batch_size, config.accumulation)}
    if config.vae.trainable != "none":
        batches["vae.batch_size"] = config.vae.batch_size, 1
    check_batches(batches, device_count)
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
    for name in names:
        if given := getattr(config, name).controlnet:
            check_fits(given, open_controlnet(given), base, condition_spec(config.window)[name]["channels"])
    encode_prompts(base, prompts(config))
    TrainingSchedule.from_config(base.scheduler_config)
    try:
        Schedule.from_config(base.scheduler_config, config.preview_steps)
    except UserError as error:
        raise UserError(f"config: preview_steps is {config.preview_steps}: {error}") from None


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
