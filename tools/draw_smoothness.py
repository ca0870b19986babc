"""Draws how steadily methods move, for the eye and as numbers, from a report of `svp evaluate`.

    svp evaluate VIDEO VIDEO ... --reference TRUTH --out REPORT
    python tools/draw_smoothness.py REPORT --out FILE.png [--column X]

Above, of the reference and of each method, one column of pixels over time: what is still makes level lines, what
flickers makes ragged ones. Below, the smoothness of each frame.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from svp_jax.manifest import read_manifest
from svp_jax.metrics.sources import open_source

matplotlib.use("agg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--column", type=int, help="x of the pixels; the middle if not given")
    options = parser.parse_args()
    manifest = read_manifest(options.report, "report")
    frames = manifest["frames"]
    column = manifest["protocol"]["size"][1] // 2 if options.column is None else options.column
    strips = {"reference": strip(manifest["reference"], frames["reference"], column)}
    for name, method in manifest["methods"].items():
        strips[name] = strip(method["source"], frames["methods"][name], column)
    draw(strips, manifest, options.out)


def strip(source: dict, numbers: list[int], column: int) -> np.ndarray:
    """A column of the pictures over time, uint8 [H, N, 3]."""
    pictures = open_source(Path(source["path"])).pictures(np.array(numbers))
    return np.stack([picture[:, column] for picture in pictures], axis=1)


def draw(strips: dict[str, np.ndarray], manifest: dict, path: Path) -> None:
    from matplotlib import pyplot

    seconds = np.array(manifest["frames"]["seconds"])
    height = [1.2] * len(strips) + [1.6]
    figure, axes = pyplot.subplots(
        len(strips) + 1, 1, sharex=True, figsize=(8, sum(height)), height_ratios=height, layout="constrained"
    )
    for axis, (name, pixels) in zip(axes, strips.items(), strict=False):
        axis.imshow(pixels, aspect="auto", extent=(seconds[0], seconds[-1], 0, 1), interpolation="nearest")
        axis.set(yticks=[])
        mean = ""
        if name in manifest["methods"]:
            mean = f", {manifest['scores'][name]['full']['smoothness']:.5f}"
        axis.set_title(f"{name.replace('_', ' ')}{mean}", fontsize=9, loc="left", pad=2)
    for name in manifest["methods"]:
        values = np.array(manifest["per_frame"][name]["full"]["smoothness"], float)
        axes[-1].plot(seconds, values, label=name.replace("_", " "), linewidth=1)
    axes[-1].set(xlabel="seconds", ylim=(0, None))
    axes[-1].set_ylabel("smoothness")
    axes[-1].legend(fontsize=8, loc="lower left", ncols=3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
