"""Frames a second of whole renders, here and of a loop over diffusers' ControlNet pipeline."""

import time
from pathlib import Path

import numpy as np
from benchmarks.render_torch import Pipelines

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import read_pngs
from svp_jax.manifest import read_json
from svp_jax.metrics import psnr
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.quality import PRESETS
from svp_jax.rendering.render import render


def benchmark_rendering(demo: Path, work: Path, steps: int, repeats: int, frames: int) -> None:
    """Both stages of the demo's held-out frames, from reading conditions to finished files.

    Loading and compiling are left out: each render is made twice and more, and the time of loading subtracted. The loop
    over diffusers' pipelines takes as many steps as `best`, each frame by itself.

    Args:
        demo: what `svp demo` wrote.
        steps: of `best`; the other presets take their shares of them.
        frames: that the loop renders; here it is all of the held-out ones.
    """
    avatar, capture = demo / "avatar", open_capture(demo / "capture")
    held_out = np.arange(*capture.manifest["split"]["test"])
    chosen = held_out[np.linspace(0, len(held_out) - 1, frames).round().astype(int)]
    pipelines = Pipelines(avatar, work)
    took = min(pipelines.render(capture, chosen, steps, work / "diffusers") for _ in range(repeats))
    there = len(chosen) / took
    print(
        f"{len(held_out)} held-out frames of {capture.size} x {capture.size}, {steps} steps, {len(chosen)} by diffusers"
    )
    print("preset      frames/s  ratio  PSNR dB")
    print(f"{'diffusers':<12}{there:>8.2f}{1:>7.2f}{_psnr(work / 'diffusers', capture, chosen):>9.2f}", flush=True)
    for preset in PRESETS:
        options = RenderOptions(quality=preset, steps=steps_of(preset, steps), force=True)
        took = min(_timed(avatar, demo / "capture", work / preset, options) for _ in range(repeats + 1))
        here = len(held_out) / took
        print(
            f"{preset:<12}{here:>8.2f}{here / there:>7.2f}{_psnr(work / preset, capture, held_out):>9.2f}", flush=True
        )


def steps_of(preset: str, best: int) -> int:
    """Denoising steps of a preset where `best` takes so many."""
    return max(1, round(PRESETS[preset].steps * best))


def _timed(avatar: Path, capture: Path, out: Path, options: RenderOptions) -> float:
    """Seconds of a render but for loading; the first of its kind compiles."""
    start = time.perf_counter()
    render(avatar, capture, out, options)
    return time.perf_counter() - start - read_json(out / "render.json")["seconds"]["load"]


def _psnr(folder: Path, capture: Capture, frames: np.ndarray) -> float:
    """Mean over the frames in `folder`."""
    pairs = zip(read_pngs(folder / "frames", frames), capture.frames(frames), strict=True)
    return float(np.mean([psnr(ours / np.float32(255), truth / np.float32(255)) for ours, truth in pairs]))
