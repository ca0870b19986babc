"""Trains `svp_jax/assets/tiny_base` from nothing: data, tokenizer, VAE, text encoder, UNet, one after the other.

    python tools/train_tiny_base.py --work WORK [--only data|vae|text|unet|export]

Everything lies in WORK, is written as it is made, and an interrupted run goes on where it stopped. The data are
procedural heads only (svp_jax/capture/synthetic_*.py): no photograph, no foreign weight takes part.
Losses and times of the run that made the shipped weights: docs/tiny_base.md.
"""

import argparse
import dataclasses
import json
import multiprocessing
import shutil
import sys
import time
from pathlib import Path

import numpy as np

SIZE = 256
SHARD = 200
PARSING_CAPTION = "a face parsing map"
NAMED_SHARE = 0.35
CAPTIONS = 3


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of the shipped weights."""

    seed: int = 7
    heads: int = 6000


def render_shard(arguments: tuple[Path, int, int]) -> None:
    """Renders heads `SHARD * number ...` into one file: frames, labels, captions."""
    from svp_jax.capture.synthetic_head import render_head
    from svp_jax.capture.synthetic_looks import NAMED_LOOKS, describe, describe_named, random_look, random_scene
    from svp_jax.capture.synthetic_motion import random_motion

    path, seed, number = arguments
    if path.exists():
        return
    frames, labels, captions, looks = [], [], [], []
    for index in range(number * SHARD, (number + 1) * SHARD):
        rng = np.random.default_rng((seed, index))
        named = rng.random() < NAMED_SHARE
        name = str(rng.choice(list(NAMED_LOOKS))) if named else ""
        look = NAMED_LOOKS[name] if named else random_look(rng)
        scene, motion = random_scene(rng), random_motion(rng)
        image = render_head(look, motion, scene, SIZE)
        frames.append(image.frame)
        labels.append(image.labels)
        seeds = rng.integers(1 << 30, size=CAPTIONS)
        # A named look is described in words now and then, so that name and words share one meaning.
        captions.append(
            [
                describe_named(name, scene, int(s)) if named and rng.random() < 0.7 else describe(look, scene, int(s))
                for s in seeds
            ]
        )
        looks.append(dataclasses.asdict(look) | {"background": scene.color, "name": name})
    beside = path.with_suffix(".tmp.npz")
    np.savez(beside, frames=np.stack(frames), labels=np.stack(labels), captions=np.array(captions),
             looks=np.array([json.dumps(look) for look in looks]))  # fmt: skip
    beside.replace(path)


def make_data(work: Path, recipe: Recipe, processes: int) -> None:
    """All shards, several processes at once."""
    (work / "data").mkdir(parents=True, exist_ok=True)
    jobs = [
        (work / "data" / f"{number:04d}.npz", recipe.seed, number) for number in range(recipe.heads // SHARD)
    ]
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap(render_shard, jobs), 1):
            print(f"data: {done}/{len(jobs)} shards, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    make_data(arguments.work, Recipe(), arguments.processes)
