"""Measures what the choices of the recipe are worth: one avatar for each, scored on the capture's held-out frames.

    python tools/measure_recipe.py CAPTURE --work DIR [--config PATH] [--shorter N] [--only NAME ...]

Trains with the config as it is, with one choice at a time turned over, and with another seed; renders the held-out
frames and evaluates them; prints one row each. With --shorter both stages have N times fewer steps. All variants share
the VAE of the first. Of a synthetic capture the demo's morph to a named look is scored as well. What DIR has already is
not made again, so that a run that was interrupted goes on.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_png
from svp_jax.demo import CONFIG, morph_options, score_morph
from svp_jax.face.tracking import find_landmarks
from svp_jax.manifest import UNFINISHED, partial_folder, read_manifest
from svp_jax.metrics.evaluate import evaluate
from svp_jax.process import set_up_process
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.training.config import TrainConfig, load_config
from svp_jax.training.train import train
from svp_jax.training.watching.following import landmark_scores
from svp_jax.weights.avatar import STAGES


def variants(config: TrainConfig) -> dict[str, TrainConfig]:
    """The config, what it becomes with one choice turned over, and with another seed: how far chance alone goes."""
    return {
        "as it is": config,
        "min-SNR": dataclasses.replace(config, min_snr_gamma=0.0 if config.min_snr_gamma else 5.0),
        "moving average": dataclasses.replace(config, ema_decay=0.0 if config.ema_decay else 0.999),
        "prompt dropout": dataclasses.replace(config, prompt_dropout=0.0 if config.prompt_dropout else 0.05),
        "accumulation": _with_accumulation(config),
        "another seed": dataclasses.replace(config, seed=config.seed + 1),
    }


def _with_accumulation(config: TrainConfig) -> TrainConfig:
    """As many images in half as many steps of twice the batch, so that it takes as long."""
    if config.accumulation > 1:
        raise SystemExit("the config accumulates already; give one without")
    return dataclasses.replace(_shorter(config, 2), accumulation=2, batch_size=2 * config.batch_size)


def _shorter(config: TrainConfig, times: int) -> TrainConfig:
    """With so many times fewer steps in both stages."""
    stages = {name: getattr(config, name) for name in STAGES}
    fewer = {name: dataclasses.replace(stage, steps=stage.steps // times) for name, stage in stages.items()}
    return dataclasses.replace(config, **fewer)


def _take_vae(first: Path, avatar: Path) -> None:
    """Begins `avatar` with the finished VAE pass of `first`."""
    folder = partial_folder(avatar)
    for name in ("vae", "training/vae"):
        if (first / name).exists():
            shutil.copytree(first / name, folder / name)
    (folder / UNFINISHED).write_text("avatar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for avatars, renders and reports; kept")
    parser.add_argument("--config", type=Path, help="default: the demo's settings")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--shorter", type=int, default=1, help="train so many times fewer steps in both stages")
    parser.add_argument("--only", nargs="+", help="names of variants, as the table has them")
    options = parser.parse_args()
    if options.shorter < 1:
        parser.error(f"--shorter is {options.shorter}, allowed are 1 or more")
    options.work.mkdir(parents=True, exist_ok=True)
    capture = open_capture(options.capture)
    config = _shorter(load_config(options.config) if options.config else CONFIG, options.shorter)
    if prompt := capture.manifest.get("prompt"):
        config = dataclasses.replace(config, prompt=prompt)
    columns = "choice turned over     PSNR    SSIM  face PSNR  landmarks (% of the eyes' distance)"
    synthetic = "synthetic" in capture.manifest
    print(columns + "  morph: PSNR  landmarks (px)" * synthetic)
    first = None
    for name, changed in variants(config).items():
        if options.only and name not in options.only:
            continue
        folder = options.work / name.replace(" ", "_")
        avatar = folder / "avatar"
        if not avatar.exists():
            if first is not None and not partial_folder(avatar).exists():
                _take_vae(first, avatar)
            train(options.capture, options.base, avatar, changed)
        elif read_manifest(avatar, "avatar")["config"] != json.loads(json.dumps(dataclasses.asdict(changed))):
            raise SystemExit(f"{avatar} was trained with other settings; give another --work")
        first = first or avatar
        if not (folder / "render").exists():
            render(avatar, options.capture, folder / "render", RenderOptions())
        if not (folder / "report").exists():
            evaluate(folder / "render", options.capture, folder / "report")
        scores = read_manifest(folder / "report", "report")["scores"]["result"]
        landmarks = _landmark_distance(folder / "render", options.capture)
        full, face = scores["full"], scores["face"]
        row = f"{name:<20}{full['psnr']:>7.2f}{full['ssim']:>8.3f}{face['psnr']:>11.2f}{landmarks:>11.2f}"
        if synthetic:
            if not (folder / "morph").exists():
                render(avatar, options.capture, folder / "morph", morph_options(capture))
            morph = score_morph(capture, folder / "morph", folder / "morph_sheet.png")
            row += f"{morph['psnr_to_named']:>38.2f}{morph['landmark_error']:>16.2f}"
        print(row, flush=True)


def _landmark_distance(folder: Path, capture: Path) -> float:
    """Mean over brows, nose, eyes and lips of the rendered frames, in percent of the distance of the eyes' corners.

    Of frames where a face is found in both.
    """
    frames = read_manifest(folder, "render")["frames"]
    pairs = zip(
        find_landmarks(read_png(folder / "frames" / f"{frame:06d}.png") for frame in frames),
        find_landmarks(read_png(capture / "frames" / f"{frame:06d}.png") for frame in frames),
        strict=True,
    )
    both = [pair for pair in pairs if all(points is not None for points in pair)]
    ours, truth = (np.stack([pair[number] for pair in both]) for number in (0, 1))
    return landmark_scores(ours, truth, np.arange(len(truth)))["landmark_distance"]


if __name__ == "__main__":
    set_up_process()
    main()
