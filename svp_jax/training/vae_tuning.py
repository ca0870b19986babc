"""The optional first pass from its start to its report: the base's VAE becomes the person's."""

import itertools
import json
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from flax import nnx

from svp_jax.capture.images import write_sheet
from svp_jax.manifest import write_json
from svp_jax.metrics.image import psnr
from svp_jax.models.codec import decode_images, encode_images, round_trips
from svp_jax.models.vae import VAE
from svp_jax.training import hosts
from svp_jax.training.config import TrainConfig
from svp_jax.training.data.held_out import PREVIEW_FRAMES, held_out, held_out_split, spread
from svp_jax.training.data.views import Views
from svp_jax.training.fit import fit
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.optimizer import OptimizerSettings
from svp_jax.training.step.trainable import vae_rules
from svp_jax.training.vae_pass import VAESamples, vae_loss
from svp_jax.training.watching.log import copy_log
from svp_jax.weights.base import Base
from svp_jax.weights.folder import load_model, save_model


def person_vae(views: Views, base: Base, config: TrainConfig, folder: Path, devices: Devices) -> tuple[VAE, dict]:
    """The VAE to train with, tuned first where the config says so; a pass that was interrupted goes on.

    Args:
        folder: the unfinished avatar; gets `vae/` and `training/vae/` with the pass's log, previews and report.

    Returns:
        the VAE, and its report: split ("test", of a capture without one "train"), frames, base_psnr and tuned_psnr
        (dB, means over the frames' round trips).
    """
    report_path = folder / "training" / "vae" / "round_trip.json"
    tuned_path = folder / "vae"
    if not hosts.as_first_says(report_path.exists()):
        _tune(views, base, config, folder / "work" / "vae", tuned_path, report_path, devices)
    # Read from disk a tuned one lies where it is used: by both stages, at once on other devices.
    vae = load_model(tuned_path) if config.vae.trainable != "none" else base.vae
    return vae, json.loads(report_path.read_text())


def _tune(
    views: Views, base: Base, config: TrainConfig, work: Path, tuned_path: Path, report_path: Path, devices: Devices
) -> None:
    """Writes the tuned VAE, where the config wants one, and last the report."""
    tuning, vae = config.vae, base.vae
    shown = held_out(views.captures)
    if tuning.trainable != "none":
        vae = fit(
            "vae",
            {"vae": base.vae},
            vae_rules(tuning.trainable),
            vae_loss,
            VAESamples(views, tuning.batch_size, config.seed),
            work,
            # A small network: in one part, in full precision, without an average.
            RunSettings(
                steps=tuning.steps,
                batch_size=tuning.batch_size,
                seed=config.seed,
                optimizer=OptimizerSettings.of(config, tuning.learning_rate),
                save_every=config.save_every,
                preview_every=config.preview_every,
                remat=config.remat,
                loader_processes=config.loader_processes,
                section="vae",
            ),
            devices,
            VAEPreview(report_path.parent, spread(shown, PREVIEW_FRAMES)),
        )["vae"]

    def finish() -> None:
        report_path.parent.mkdir(parents=True, exist_ok=True)
        split = held_out_split(views.captures)
        report = {"split": split, "frames": len(shown), "base_psnr": _round_trip(base.vae, shown)}
        if tuning.trainable != "none":
            save_model(vae, tuned_path)
            report["tuned_psnr"] = _round_trip(vae, shown)
            copy_log(work, report_path.parent)
        print(f"vae: round trip of the {split} frames, PSNR in dB: {report}", file=sys.stderr)
        # Its report is what says that the pass is finished.
        write_json(report_path, report)
        shutil.rmtree(work, ignore_errors=True)

    hosts.first_does(finish)


def _round_trip(vae: VAE, shown: Views) -> float:
    """Mean PSNR (dB) of frames encoded and decoded: what no avatar with this VAE can exceed by much."""
    # A batch of frames in memory at a time.
    frames, again = itertools.tee(shown.targets("details", [number])[0] for number in range(len(shown)))
    return float(np.mean([psnr(a / 255.0, b / 255.0) for a, b in zip(round_trips(vae, frames), again, strict=True)]))


@dataclass(frozen=True)
class VAEPreview:
    """Writes a few held-out frames and parsing maps, each row followed by its round trip, into `folder`."""

    folder: Path
    shown: Views

    def path(self, step: int) -> Path:
        """Of the picture after `step` finished steps."""
        return self.folder / f"preview_{step:06d}.png"

    def __call__(self, step: int, models: dict[str, nnx.Module]) -> dict[str, float]:
        numbers, rows = np.arange(len(self.shown)), []
        for stage in ("details", "outlines"):
            read = partial(self.shown.targets, stage)
            rows += [read(numbers), decode_images(models["vae"], encode_images(models["vae"], read, numbers)[0])]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_sheet(self.path(step), rows)
        return {}
