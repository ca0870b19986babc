"""The training data of the tiny base: procedural heads with their labels and captions, in shards on disk."""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from svp_jax.manifest import sha256_file

SIZE = 256
SHARD = 200
NAMED_SHARE = 0.35
CAPTIONS = 3


def render_shard(arguments: tuple[Path, int, int]) -> None:
    """Renders heads `SHARD * number ...` into one file: frames, labels, condition images, captions, looks."""
    from svp_jax.capture.synthetic.head import render_head
    from svp_jax.capture.synthetic.looks import (
        NAMED_LOOKS,
        describe,
        describe_named,
        random_look,
        random_scene,
    )
    from svp_jax.capture.synthetic.motion import random_motion

    path, seed, number = arguments
    if path.exists():
        return
    frames, labels, geometry, iris, captions, looks = [], [], [], [], [], []
    for index in range(number * SHARD, (number + 1) * SHARD):
        rng = np.random.default_rng((seed, index))
        named = rng.random() < NAMED_SHARE
        name = str(rng.choice(list(NAMED_LOOKS))) if named else ""
        look = NAMED_LOOKS[name] if named else random_look(rng)
        scene, motion = random_scene(rng), random_motion(rng)
        image = render_head(look, motion, scene, SIZE)
        frames.append(image.frame)
        labels.append(image.labels)
        geometry.append(image.geometry)
        iris.append(image.iris)
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
    np.savez(beside, frames=np.stack(frames), labels=np.stack(labels), geometry=np.stack(geometry),
             iris=np.stack(iris), captions=np.array(captions),
             looks=np.array([json.dumps(look) for look in looks]))  # fmt: skip
    beside.replace(path)


def make_data(work: Path, heads: int, seed: int, processes: int) -> None:
    """All shards, several processes at once."""
    (work / "data").mkdir(parents=True, exist_ok=True)
    jobs = [(work / "data" / f"{number:04d}.npz", seed, number) for number in range(heads // SHARD)]
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap(render_shard, jobs), 1):
            print(f"data: {done}/{len(jobs)} shards, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


class Heads:
    """The rendered shards, all in memory (0.65 MB a head).

    Attributes:
        frames, geometry, iris: uint8 [N, 256, 256, 3]; labels: uint8 [N, 256, 256].
        captions: str [N, CAPTIONS]; looks: the N attribute dictionaries.
    """

    def __init__(self, work: Path):
        self._paths = sorted((work / "data").glob("[0-9]*[0-9].npz"))
        shards = [np.load(path) for path in self._paths]
        self.frames = np.concatenate([shard["frames"] for shard in shards])
        self.labels = np.concatenate([shard["labels"] for shard in shards])
        self.geometry = np.concatenate([shard["geometry"] for shard in shards])
        self.iris = np.concatenate([shard["iris"] for shard in shards])
        self.captions = np.concatenate([shard["captions"] for shard in shards])
        self.looks = [json.loads(look) for shard in shards for look in shard["looks"]]

    @functools.cached_property
    def sha256(self) -> str:
        """Of the shards' bytes, for what is made from them: other heads may have the same names and sizes."""
        return hashlib.sha256("".join(map(sha256_file, self._paths)).encode()).hexdigest()


def half(images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] of half the size, by area."""
    return np.stack([cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in images])
