"""Measures what each setting that makes a render faster saves, and what it costs in quality.

    python tools/measure_speed.py DEMO --out FOLDER

Renders the held-out frames of what `svp demo` wrote (--steps of them as the full number), one setting at a time, and
prints for each the frames a second and seconds of processor time a frame, once compiled and loaded, and scores of
`svp evaluate`: PSNR of the whole picture and of the face, smoothness, and sharpness: the mean gradient over that of the
reference (blur gains PSNR and loses here). Rows that FOLDER has of the same avatar and settings are not rendered again.
"""

import argparse
import json
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_pngs
from svp_jax.manifest import partial_folder, read_json, read_manifest, write_json
from svp_jax.metrics.evaluate import evaluate
from svp_jax.process import set_up_process
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.quality import PRESETS, with_preset
from svp_jax.rendering.render import render
from svp_jax.rendering.run import recorded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what `svp demo` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the renders; kept")
    parser.add_argument("--steps", type=int, default=20, help="the full number of denoising steps")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    avatar = read_manifest(options.demo / "avatar", "avatar")
    full = RenderOptions(steps=options.steps, reuse=1, force=True)
    print(f"{'':<24}frames/s  CPU s/frame  PSNR dB   face  smoothness  sharpness")
    for name, settings in variants(full).items():
        path = options.out / f"{name.replace(' ', '_').replace(',', '')}.json"
        made_of = {"avatar": avatar["manifest_sha256"], "settings": recorded(settings)}
        if not path.exists() or read_json(path)["made_of"] != json.loads(json.dumps(made_of)):
            write_json(path, {"made_of": made_of, "row": measured(options.demo, options.out / "render", settings)})
        print(_line(name, read_json(path)["row"]), flush=True)


def variants(full: RenderOptions) -> dict[str, RenderOptions]:
    """Each setting by itself, then the presets."""
    steps = full.steps
    alone = {
        "full": {},
        "half the steps": {"steps": steps // 2},
        "a quarter of the steps": {"steps": steps // 4},
        "a tenth of the steps": {"steps": steps // 10},
        "reuse 2": {"reuse": 2},
        "reuse 4": {"reuse": 4},
        "begin 0.5": {"begin": 0.5},
        "begin 0.8": {"begin": 0.8},
        "still 0.5": {"still": 0.5},
        "maps driver": {"maps": "driver"},
        "bfloat16": {"precision": "bfloat16"},
        "guidance 3": {"guidance": 3.0},
        "guidance 3, first half": {"guidance": 3.0, "guidance_end": 0.5},
    }
    rows = {name: replace(full, **settings) for name, settings in alone.items()}
    open_to_preset = replace(full, steps=None, reuse=None)
    return rows | {f"preset {name}": with_preset(replace(open_to_preset, quality=name), steps) for name in PRESETS}


def measured(demo: Path, out: Path, settings: RenderOptions) -> dict[str, float]:
    """The second of two renders: the first one compiles."""
    capture = open_capture(demo / "capture")
    frames = np.arange(*capture.manifest["split"]["test"])
    for _ in range(2):
        # What an interrupted measurement left would be gone on with.
        shutil.rmtree(partial_folder(out), ignore_errors=True)
        wall, cpu = time.perf_counter(), _cpu_seconds()
        render(demo / "avatar", demo / "capture", out, settings)
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    loading = read_json(out / "render.json")["seconds"]["load"]
    report = evaluate(out, demo / "capture", out.with_name("report"), force=True)
    scores = read_manifest(report, "report")["scores"]["result"]
    pictures, truth = (x.astype(np.float32) for x in (read_pngs(out / "frames", frames), capture.frames(frames)))
    return {
        "rate": len(frames) / (wall - loading),
        # Loading runs on one core.
        "cpu": (cpu - loading) / len(frames),
        "psnr": scores["full"]["psnr"],
        "face": scores["face"]["psnr"],
        "smoothness": scores["full"]["smoothness"],
        "sharpness": float(_gradient(pictures) / _gradient(truth)),
    }


def _gradient(pictures: np.ndarray) -> np.ndarray:
    """Mean absolute difference of neighbouring pixels."""
    return np.abs(np.diff(pictures, axis=1)).mean() + np.abs(np.diff(pictures, axis=2)).mean()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _line(name: str, row: dict[str, float]) -> str:
    return (
        f"{name:<24}{row['rate']:>8.2f}{row['cpu']:>13.3f}{row['psnr']:>9.2f}{row['face']:>7.2f}"
        f"{row['smoothness']:>12.5f}{row['sharpness']:>11.3f}"
    )


if __name__ == "__main__":
    set_up_process()
    main()
