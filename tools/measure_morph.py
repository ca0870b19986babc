"""Measures what the strength of the control decides in morphing: the text's look, or following the person.

    python tools/measure_morph.py DEMO --out FOLDER

Renders the demo's morph with seven strengths (`svp render --sweep strength=0.2:1.4:7`) from three noises each and
compares it with the named look under the same motion. Prints for each strength, as mean and standard deviation,

- the landmark error: median distance in pixels of where each landmark's surroundings are found in the morph;
- the colours' distance to the named look, and to the original person: mean difference of the sorted values of each
  colour channel (the Wasserstein distance), in grey levels; where things lie does not count.

Draws them over the strength into morph_by_strength.png, beside the sweeps' own sheets.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_pngs
from svp_jax.capture.synthetic.capture import render_look_on_capture
from svp_jax.demo import MORPH_NAME, morph_options, score_morph
from svp_jax.manifest import read_manifest
from svp_jax.process import set_up_process
from svp_jax.rendering.render import render

matplotlib.use("agg")
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what `svp demo` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sweep")
    options = parser.parse_args()
    capture = open_capture(options.demo / "capture")
    settings = replace(morph_options(capture), sweep="strength=0.2:1.4:7", force=True)
    rows = []
    for seed in SEEDS:
        sweep = options.out / f"sweep_{seed}"
        render(options.demo / "avatar", options.demo / "capture", sweep, replace(settings, seed=seed))
        names = read_manifest(sweep, "sweep")["videos"]
        rows.append([measured(capture, sweep / name, options.out / f"{name}.png") for name in names])
    rows = np.array(rows)
    print("strength     landmarks px  colours to the look    to the person")
    for (strength, *means), (_, *deviations) in zip(rows.mean(axis=0), rows.std(axis=0, ddof=1), strict=True):
        cells = [f"{mean:.2f} +- {deviation:.2f}" for mean, deviation in zip(means, deviations, strict=True)]
        print(f"{strength:>8.2f}{cells[0]:>17}{cells[1]:>21}{cells[2]:>17}", flush=True)
    plot(rows, options.out / "morph_by_strength.png")


def measured(capture, folder: Path, sheet: Path) -> tuple[float, float, float, float]:
    manifest = read_manifest(folder, "render")
    frames = np.array(manifest["frames"])
    pictures = read_pngs(folder / "frames", frames)
    named, original = render_look_on_capture(capture, MORPH_NAME, frames), capture.frames(frames)
    error = score_morph(capture, folder, sheet)["landmark_error"]
    return (
        manifest["settings"]["strength"],
        error,
        colour_distance(pictures, named),
        colour_distance(pictures, original),
    )


def colour_distance(pictures: np.ndarray, truth: np.ndarray) -> float:
    """Mean over pictures uint8 [n, H, W, 3] and channels, in grey levels."""

    def ordered(images) -> np.ndarray:
        return np.sort(np.asarray(images, np.float32).reshape(len(images), -1, 3), axis=1)

    return float(np.abs(ordered(pictures) - ordered(truth)).mean())


def plot(rows: np.ndarray, path: Path) -> None:
    """Of `rows` [noises, strengths, 4], as `measured` gives them."""
    from matplotlib import pyplot

    strength, *means = rows.mean(axis=0).T
    _, *deviations = rows.std(axis=0, ddof=1).T
    figure, left = pyplot.subplots(figsize=(6, 4))
    left.errorbar(strength, means[0], deviations[0], fmt="o-", capsize=3, color="tab:blue")
    left.set(xlabel="strength of the control", ylim=(0, None))
    left.set_ylabel("landmark error in pixels", color="tab:blue")
    right = left.twinx()
    style = {"fmt": "s-", "capsize": 3}
    right.errorbar(strength, means[1], deviations[1], **style, color="tab:red", label="to the named look")
    right.errorbar(strength, means[2], deviations[2], **style, color="tab:orange", label="to the original person")
    right.set_ylabel("distance of colours in grey levels", color="tab:red")
    right.set_ylim(0, None)
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    set_up_process()
    main()
