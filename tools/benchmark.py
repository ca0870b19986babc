"""Measures this program beside PyTorch, its conversion of full-size weights, and its rasterizer.

    python tools/benchmark.py model               UNet and ControlNet of SD 1.5's full width, here and in diffusers
    python tools/benchmark.py train               one training step, here and in PyTorch with diffusers' networks
    python tools/benchmark.py loader              batches of conditions a second, and how long a step waits for them
    python tools/benchmark.py convert             a single-file SD 1.5 to a folder; loading a float16 folder
    python tools/benchmark.py render --demo DEMO  whole renders of a demo, here and as a loop over diffusers' pipelines
    python tools/benchmark.py render --full-width the same of SD 1.5's size with random weights, for a GPU of 40 GB
    python tools/benchmark.py raster              pictures of normals a second; --ict-model adds a whole head
    python tools/benchmark.py metrics             frames a second of the metrics that need no network

Prints times, ratios and memory. `model`, `train`, `render`, `convert` and `metrics` need the [dev] extra, `model` and
`convert` 15 GB of disk below --work and 16 GB of memory; weights are random but for `render`. `train` measures small
networks, with --full-width SD 1.5 on a GPU.
"""

import argparse
from pathlib import Path

from svp_jax.process import set_up_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "train", "loader", "convert", "render", "raster", "metrics"))
    parser.add_argument("--work", type=Path, default=Path("benchmark"), help="folder for the weights; kept")
    parser.add_argument("--latents", type=int, nargs="+", default=[32, 64], help="model: sides of the latents")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--ict-model", type=Path, help=".npz with the ICT face's neutral [V, 3] in cm and faces [T, 3]")
    parser.add_argument("--full-width", action="store_true", help="train, render: SD 1.5, for GPUs")
    parser.add_argument("--size", type=int, help="train, render --full-width, loader: side of the pictures in pixels")
    parser.add_argument("--batch", type=int, help="train, loader: pictures of a step")
    parser.add_argument("--demo", type=Path, help="render: what `svp demo` wrote")
    parser.add_argument("--steps", type=int, default=20, help="render: denoising steps of the preset best")
    parser.add_argument("--frames", type=int, default=10, help="render: how many of them the loop renders")
    options = parser.parse_args()
    if options.what == "render" and bool(options.demo) == options.full_width:
        parser.error("render needs --demo, the folder that `svp demo` wrote, or --full-width")
    if options.size and options.size % 64:
        parser.error(f"--size is {options.size}, allowed are multiples of 64")
    # Imported once the flags are set, and only what a benchmark needs.
    if options.what == "raster":
        from benchmarks.raster import benchmark_rasterizer

        benchmark_rasterizer(options.ict_model, options.repeats)
        return
    if options.what == "metrics":
        from benchmarks.metrics import benchmark_metrics

        benchmark_metrics(options.repeats)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "model":
        from benchmarks.model import benchmark_models

        benchmark_models(options.work, options.latents, options.repeats)
    elif options.what == "train":
        from benchmarks.train import benchmark_training

        benchmark_training(options.work, options.repeats, options.full_width, options.size, options.batch)
    elif options.what == "loader":
        from benchmarks.loader import benchmark_loader

        benchmark_loader(options.work, options.size, options.batch)
    elif options.what == "render":
        from benchmarks.render import benchmark_full_width, benchmark_rendering

        counts = (options.steps, options.repeats, options.frames)
        if options.full_width:
            benchmark_full_width(options.work, options.size, *counts)
        else:
            benchmark_rendering(options.demo, options.work, *counts)
    else:
        from benchmarks.convert import benchmark_conversion

        benchmark_conversion(options.work)


if __name__ == "__main__":
    set_up_process()
    main()
