"""The optional first pass from its start to its report: the base's VAE becomes the person's."""

import itertools
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
from flax import nnx

from svp_jax.capture.images import write_sheet
from svp_jax.manifest import write_json
from svp_jax.metrics.image import psnr
from svp_jax.models.codec import decode_images, encode_images, round_trips
from svp_jax.models.vae import VAE
from svp_jax.training.config import TrainConfig
from svp_jax.training.held_out import PREVIEW_FRAMES, held_out, held_out_split, spread
from svp_jax.training.loop import fit
from svp_jax.training.optimizer import OptimizerSettings
from svp_jax.training.trainable import vae_rules
from svp_jax.training.vae_pass import VAESamples, vae_loss
from svp_jax.training.views import Views
from svp_jax.weights.base import Base
from svp_jax.weights.folder import load_model, save_model


def person_vae(views: Views, base: Base, config: TrainConfig, folder: Path) -> tuple[VAE, dict]:
    """The VAE to train with, tuned first where the config says so; a pass that was interrupted goes on.

    Args:
        folder: the unfinished avatar; gets `vae/` and `training/vae/` with the pass's log, previews and report.

    Returns:
        the VAE, and its report: split ("test", of a capture without one "train"), frames, base_psnr and tuned_psnr
        (dB, means over the frames' round trips).
    """
    report_path = folder / "training" / "vae" / "round_trip.json"
    tuned_path, work = folder / "vae", folder / "work" / "vae"
    tuning = config.vae
    if report_path.exists():
        vae = load_model(tuned_path) if tuning.trainable != "none" else base.vae
        return vae, json.loads(report_path.read_text())
    split, shown = held_out_split(views.captures), held_out(views.captures)
    report = {"split": split, "frames": len(shown), "base_psnr": _round_trip(base.vae, shown)}
    vae = base.vae
    report_path.parent.mkdir(parents=True, exist_ok=True)
    if tuning.trainable != "none":
        samples = VAESamples(views, tuning.batch_size, config.seed)
        vae = fit(
            "vae",
            {"vae": base.vae},
            vae_rules(tuning.trainable),
            vae_loss,
            samples,
            work,
            steps=tuning.steps,
            batch_size=tuning.batch_size,
            seed=config.seed,
            settings=OptimizerSettings.of(config, tuning.learning_rate),
            save_every=config.save_every,
            preview_every=config.preview_every,
            preview=lambda step, models: _preview_vae(
                report_path.parent / f"preview_{step:06d}.png", models["vae"], spread(shown, PREVIEW_FRAMES)
            ),
            loader_processes=config.loader_processes,
        )["vae"]
        save_model(vae, tuned_path)
        report["tuned_psnr"] = _round_trip(vae, shown)
        shutil.copy(work / "log.jsonl", report_path.parent / "log.jsonl")
    print(f"vae: round trip of the {split} frames, PSNR in dB: {report}", file=sys.stderr)
    # Its report is what says that the pass is finished.
    write_json(report_path, report)
    shutil.rmtree(work, ignore_errors=True)
    return vae, report


def _round_trip(vae: VAE, shown: Views) -> float:
    """Mean PSNR (dB) of frames encoded and decoded: what no avatar with this VAE can exceed by much."""
    # A batch of frames in memory at a time.
    frames, again = itertools.tee(shown.targets("details", [number])[0] for number in range(len(shown)))
    return float(np.mean([psnr(a / 255.0, b / 255.0) for a, b in zip(round_trips(vae, frames), again, strict=True)]))


def _preview_vae(path: Path, vae: nnx.Module, shown: Views) -> None:
    """A few held-out frames and parsing maps, each row followed by its round trip."""
    numbers = np.arange(len(shown))
    rows = []
    for stage in ("details", "outlines"):
        read = partial(shown.targets, stage)
        rows += [read(numbers), decode_images(vae, encode_images(vae, read, numbers)[0])]
    write_sheet(path, rows)
