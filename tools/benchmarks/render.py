"""Frames a second of whole renders, here and of a loop over diffusers' ControlNet pipeline."""

import os
import shutil
import time
from pathlib import Path

# Before jax takes most of a GPU's memory, of which PyTorch needs some.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
from benchmarks.random_avatar import make_random_avatar
from benchmarks.render_torch import Pipelines

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import read_pngs
from svp_jax.manifest import partial_folder, read_json, read_manifest
from svp_jax.metrics import psnr
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.quality import PRESETS
from svp_jax.rendering.render import render

# Rendered side by side on a GPU, besides one alone.
SIDE_BY_SIDE = 8


def benchmark_full_width(work: Path, size: int | None, steps: int, repeats: int, frames: int) -> None:
    """As `benchmark_rendering`, of Stable Diffusion 1.5's size with random weights, at `size` (512) pixels."""
    folder = make_random_avatar(work / f"random_{size or 512}", size or 512)
    benchmark_rendering(folder, work, steps, repeats, frames, learned=False)


def benchmark_rendering(demo: Path, work: Path, steps: int, repeats: int, frames: int, learned: bool = True) -> None:
    """Both stages of the held-out frames of a demo, from reading conditions to finished files.

    Loading and compiling are left out: each render is made twice and more, and the time of loading subtracted. The loop
    over diffusers' pipelines takes as many steps as `best`, each frame by itself. On a GPU both compute in bfloat16,
    the pipelines' networks are compiled, and eight videos are rendered side by side besides one alone.

    Args:
        demo: what `svp demo` wrote: a folder with avatar/ and capture/.
        steps: of `best`; the other presets take their shares of them.
        frames: that the loop renders; here it is all of the held-out ones.
        learned: whether the pictures mean anything, so that they are scored.
    """
    on_gpu = jax.default_backend() == "gpu"
    avatar, capture = demo / "avatar", open_capture(demo / "capture")
    held_out = np.arange(*capture.manifest["split"]["test"])
    chosen = held_out[np.linspace(0, len(held_out) - 1, frames).round().astype(int)]
    pipelines = Pipelines(avatar, work, on_gpu)
    took = min(pipelines.render(capture, chosen, steps, work / "diffusers") for _ in range(repeats))
    there = len(chosen) / took
    precision = "bfloat16" if on_gpu else "float32"
    print(
        f"{len(held_out)} held-out frames of {capture.size} x {capture.size}, {steps} steps, {precision}; "
        f"{len(chosen)} by diffusers"
    )
    print("preset      videos  frames/s  ratio  PSNR dB")

    def line(name: str, videos: int, rate: float, pictures: Path, frames: np.ndarray) -> None:
        score = f"{_psnr(pictures, capture, frames):>9.2f}" if learned else ""
        print(f"{name:<12}{videos:>6}{rate:>10.2f}{rate / there:>7.2f}{score}", flush=True)

    line("diffusers", 1, there, work / "diffusers", chosen)
    for preset in PRESETS:
        for videos in (1, SIDE_BY_SIDE) if on_gpu else (1,):
            options = RenderOptions(
                quality=preset,
                steps=steps_of(preset, steps),
                precision=precision,
                also=(demo / "capture",) * (videos - 1),
                force=True,
            )
            out = work / f"{preset}_{videos}"
            took = min(_timed(avatar, demo / "capture", out, options) for _ in range(repeats + 1))
            line(preset, videos, videos * len(held_out) / took, _first(out), held_out)


def steps_of(preset: str, best: int) -> int:
    """Denoising steps of a preset where `best` takes so many."""
    return max(1, round(PRESETS[preset].steps * best))


def _timed(avatar: Path, capture: Path, out: Path, options: RenderOptions) -> float:
    """Seconds of a run but for loading; the first of its kind compiles."""
    # What an interrupted benchmark left would be gone on with.
    shutil.rmtree(partial_folder(out), ignore_errors=True)
    start = time.perf_counter()
    render(avatar, capture, out, options)
    return time.perf_counter() - start - read_json(_first(out) / "render.json")["seconds"]["load"]


def _first(out: Path) -> Path:
    """The render of the first video of a run in `out`."""
    return out if (out / "render.json").exists() else out / read_manifest(out, "sweep")["videos"][0]


def _psnr(folder: Path, capture: Capture, frames: np.ndarray) -> float:
    """Mean over the frames in `folder`."""
    pairs = zip(read_pngs(folder / "frames", frames), capture.frames(frames), strict=True)
    return float(np.mean([psnr(ours / np.float32(255), truth / np.float32(255)) for ours, truth in pairs]))
