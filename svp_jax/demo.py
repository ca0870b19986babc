"""`svp demo`: the whole main job on the embedded default, on a synthetic person that the base has never seen."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import write_sheet
from svp_jax.capture.synthetic.capture import render_look_on_capture, write_synthetic_capture
from svp_jax.errors import UserError, outside
from svp_jax.manifest import DEMO_PROGRESS, check_output, read_manifest, write_json, write_manifest
from svp_jax.metrics.evaluate import evaluate, summary
from svp_jax.metrics.image import psnr
from svp_jax.metrics.landmarks import landmark_shift
from svp_jax.metrics.sources import open_source
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.training.config import Copies, Stage, TrainConfig, VAEPass
from svp_jax.training.train import train

SIZE = 128
SECONDS = 10.0
STEPS = 2
MORPH_STEPS = 5
MORPH_NAME = "Velmora"
SHEET_FRAMES = 6
PLAIN = {"current": 1.0, "previous": 0.0, "noise": 1.0}
# With and without temporal denoising, all frames from the same noise (the default) and each from its own.
RENDERS = {
    "render": {},
    "plain": PLAIN,
    "render_own_noise": {"noise_per_frame": True},
    "plain_own_noise": {"noise_per_frame": True, **PLAIN},
}
BASE = "tiny"
# Shorter than configs/tiny.yaml, so that everything fits into a quarter of an hour on two cores.
CONFIG = TrainConfig(
    outlines=Stage(steps=400, learning_rate=1e-3, unet_learning_rate=1e-3, trainable="full"),
    details=Stage(steps=400, learning_rate=1e-3, unet_learning_rate=1e-3, trainable="full"),
    vae=VAEPass(trainable="decoder", steps=500, batch_size=2, learning_rate=3e-3),
    batch_size=8,
    warmup_steps=30,
    decay="cosine",
    timestep_shift=3.0,
    copies=Copies(per_frame=1),
    loader_processes=0,
    # The last step.
    temporal_current=0.65,
    temporal_previous=0.35,
    temporal_tau=0.9,
    save_every=250,
    preview_every=1000,
    preview_steps=STEPS,
)

README = """# What `svp demo` made

Everything here is synthetic: a procedural head, drawn with exact labels, that the embedded tiny base has not seen.

- `avatar.mp4`: the held-out part of the clip, rendered by the avatar (both stages, temporal denoising)
- `side_by_side.mp4`: reference, face model, parsing map of Stage I, result
- `plain.mp4`: without temporal denoising, each frame from its own noise
- `morph.mp4`: the same motion as "{name}", by text, with the base's own UNet and VAE, on the clip's own parsing maps
- `metrics.json`: every number below, for this run
- `morph_sheet.png`: the original person, the named look drawn under the same motion, and the morph, one row each
- `contact_sheet.png`: reference, result, nearest training frame, mean frame, conditions
- `capture/`, `avatar/`, `morph/`, `render/`, `plain/`, the same two with `_own_noise`, and `report_...` of these four:
  the folders behind them, as the single commands make them (`svp inspect FOLDER` explains one)

{table}
"""


def demo(out: Path, seed: int, force: bool) -> str:
    """Runs the main job into the folder `out`; steps that an interrupted run has finished are kept.

    Args:
        seed: of the person, its motion and the training.

    Returns:
        the table of results.

    Raises:
        UserError: the seed is outside 0 .. 2**32 - 2, or `out` is no folder for a demo.
    """
    if problem := outside(seed, 0, 2**32 - 2):
        raise UserError(f"--seed {seed}: {problem}")
    out = Path(out)
    seconds = _start(out, seed, force)

    def step(name: str, make) -> Path:
        folder = out / name
        if not folder.exists():
            began = time.monotonic()
            make(folder)
            # An interrupted step that went on later counts its last run only.
            seconds[name] = round(time.monotonic() - began, 1)
            write_json(out / DEMO_PROGRESS, {"kind": "demo", "seed": seed, "seconds": seconds})
        return folder

    capture_folder = step("capture", lambda f: write_synthetic_capture(f, seed + 1, SECONDS, size=SIZE))
    capture = open_capture(capture_folder)
    config = dataclasses.replace(CONFIG, seed=seed)
    avatar = step("avatar", lambda f: train(capture_folder, BASE, f, config))
    scores = {}
    for name, changes in RENDERS.items():
        options = RenderOptions(steps=STEPS, **changes)
        step(name, lambda f, options=options: render(avatar, capture_folder, f, options))
        report = step(f"report_{name}", lambda f, name=name: evaluate(out / name, capture_folder, f))
        scores[name] = read_manifest(report, "report")["scores"]
    morph = step("morph", lambda f: render(avatar, capture_folder, f, morph_options(capture)))

    results = {
        "scores": scores["render"],
        "temporal_denoising": {name: scores[name]["result"]["full"] for name in RENDERS},
        "morph": score_morph(capture, morph, out / "morph_sheet.png"),
        "vae_round_trip_psnr": read_manifest(avatar, "avatar")["vae_round_trip"],
        "seconds": seconds,
    }
    for source, target in (
        ("render/avatar.mp4", "avatar.mp4"),
        ("render/side_by_side.mp4", "side_by_side.mp4"),
        ("plain_own_noise/avatar.mp4", "plain.mp4"),
        ("morph/avatar.mp4", "morph.mp4"),
        ("report_render/contact_sheet.png", "contact_sheet.png"),
    ):
        shutil.copy(out / source, out / target)
    table = result_table(summary(out / "report_render"), results)
    (out / "README.md").write_text(README.format(name=MORPH_NAME, table=table), encoding="utf-8")
    write_json(out / "metrics.json", results)
    write_manifest(out, "demo", {"seed": seed, "seconds": seconds})
    # Last: while it is there, the demo is unfinished.
    (out / DEMO_PROGRESS).unlink()
    return table


def _start(out: Path, seed: int, force: bool) -> dict[str, float]:
    """Makes or reopens the folder; the seconds of the steps that an interrupted run has finished."""
    progress = out / DEMO_PROGRESS
    if progress.exists():
        earlier = _progress(progress)
        if earlier["seed"] == seed:
            return earlier["seconds"]
        if not force:
            raise UserError(
                f"--out {out} is an unfinished demo with --seed {earlier['seed']}; use that to go on, or add --force"
            )
        shutil.rmtree(out)
    elif out.exists():
        check_output(out, "demo", force)
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot write there ({error.strerror}); choose another folder") from None
    write_json(progress, {"kind": "demo", "seed": seed, "seconds": {}})
    return {}


def _progress(path: Path) -> dict:
    """What an interrupted demo has noted; UserError where the file is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("kind") != "demo":
        raise UserError(f"{path} is not of an unfinished demo; choose another --out")
    return content


def morph_options(capture: Capture) -> RenderOptions:
    """Asks for the named look before the capture's own background."""
    prompt = f"a portrait of {MORPH_NAME}, {capture.manifest['synthetic']['scene']['color']} background"
    return RenderOptions(steps=MORPH_STEPS, unet="base", maps="driver", prompt=prompt, guidance=2.0)


def score_morph(capture: Capture, folder: Path, sheet: Path) -> dict:
    """How near the morph is to the named look under the same motion, and to the original person.

    Args:
        folder: the render.
        sheet: a picture to write: frames of the original person, of the named look and of the morph, one row each.

    Returns:
        psnr_to_named, psnr_to_original: dB, means over the frames.
        landmark_error: median distance (pixels) of where each landmark's surroundings are found in the morph.
        landmark_error_still: the same for a still picture, the named look of the first frame.
    """
    indices = np.array(read_manifest(folder, "render")["frames"])
    morphed = list(open_source(folder).pictures(range(len(indices))))
    named = render_look_on_capture(capture, MORPH_NAME, indices)
    original = capture.frames(indices)
    landmarks = capture.landmarks[indices][..., :2]
    shown = np.linspace(0, len(indices) - 1, SHEET_FRAMES).round().astype(int)
    write_sheet(sheet, [[pictures[i] for i in shown] for pictures in (original, named, morphed)])

    def follow(pictures) -> float:
        shifts = [
            landmark_shift(picture, truth, points, patch=15, search=10)
            for picture, truth, points in zip(pictures, named, landmarks, strict=True)
        ]
        return float(np.nanmedian(np.linalg.norm(np.concatenate(shifts), axis=-1)))

    def mean(truth: np.ndarray) -> float:
        return float(np.mean([psnr(a / 255, b / 255) for a, b in zip(morphed, truth, strict=True)]))

    return {
        "name": MORPH_NAME,
        "psnr_to_named": mean(named),
        "psnr_to_original": mean(original),
        "landmark_error": follow(morphed),
        "landmark_error_still": follow([named[0]] * len(named)),
    }


def result_table(scores: str, results: dict) -> str:
    """The scores and what they say about temporal denoising and morphing."""
    morph, temporal = results["morph"], results["temporal_denoising"]

    def compare(start: str, ours: str, plain: str) -> str:
        after, before = temporal[ours], temporal[plain]
        return (
            f"{start:<26} {before['smoothness']:>10.5f} {before['psnr']:>9.2f} {after['smoothness']:>12.5f} "
            f"{after['psnr']:>9.2f} {after['smoothness'] / before['smoothness']:>7.2f}"
        )

    return "\n".join(
        [
            "```",
            scores,
            "```",
            "Temporal denoising (smoothness, 0 = moves exactly as the reference, and PSNR in dB, full frames):",
            "```",
            f"{'frames start from':<26} {'plain DDIM':>10} {'PSNR':>9} {'temporal':>12} {'PSNR':>9} {'ratio':>7}",
            compare("the same noise (default)", "render", "plain"),
            compare("noise of their own", "render_own_noise", "plain_own_noise"),
            "```",
            f"Morph to {morph['name']}: {morph['psnr_to_named']:.2f} dB to the named look, "
            f"{morph['psnr_to_original']:.2f} dB to the original person; landmarks off by "
            f"{morph['landmark_error']:.1f} px (a still picture: {morph['landmark_error_still']:.1f} px).",
            f"Seconds: {results['seconds']}",
        ]
    )
