"""Frames a second of whole renders, here and of a loop over diffusers' ControlNet pipeline."""

import json
import time
from pathlib import Path

import numpy as np
from benchmarks.render_torch import Pipelines

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.images import read_pngs
from svp_jax.metrics import psnr
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render

# The last of these is what others are compared with in quality.
PRESETS = ("draft", "standard", "best")


def benchmark_rendering(demo: Path, work: Path, frames: int, repeats: int) -> None:
    """Held-out frames of the demo, both stages, from reading conditions to files; loading and compiling left out.

    Args:
        demo: what `svp demo` wrote.
        frames: how many of them the slower side renders; the faster one renders all.
    """
    capture = open_capture(demo / "capture")
    held_out = np.arange(*capture.manifest["split"]["test"])
    best = RenderOptions(quality="best", frames="test", force=True)
    for preset in PRESETS:
        ...
