"""A render in one piece and in five segments, and five sequences together and alone; as a program, which has 4 devices.

    python segments_run.py AVATAR DRIVER OUT

Renders into OUT/whole and OUT/segments, and writes all latents into OUT/latents.npz. Prints one line of JSON: how often
a stage was traced each time, and by stage how far the segments are apart where they meet.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from svp_jax.diffusion import Schedule, TemporalWeights
from svp_jax.rendering import stage_sampler, stages
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.rendering.stage_sampler import Frames, StageSampler
from svp_jax.rendering.steering import Steering, window
from svp_jax.weights.avatar import load_avatar
from svp_jax.weights.base import encode_prompts

FRAMES, STEPS, CHUNK, TOLERANCE = 44, 4, 11, 0.01
# Fresh noise at each step, by the frame's number in the whole video.
ETA = 0.5
# Where a shot starts, and the frames that segments begin with.
CUT, BEGINNINGS = 36, (19, 26, 33, 40)
# As long as the segments' chunks.
LENGTH = 11
# Of the five sequences; they come in two chunks.
LENGTHS = (15, 9, 0, 15, 3)
STRENGTHS = (1.0, 0.2, 1.0, 1.0, 0.5)
PROMPTS = ("a person", "somebody else", "a person", "a statue", "a person")


class Recording(StageSampler):
    """Keeps the latents of all frames of each row."""

    made: list

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.made.append(self)
        self.latents = {}

    def __call__(self, parts):
        results = super().__call__(parts)
        for row, (part, (latents, _)) in enumerate(zip(parts, results, strict=True)):
            for number, latent in zip(part.numbers, latents, strict=True):
                self.latents.setdefault(int(number), {})[row] = latent
        return results


def rendered(avatar: Path, driver: Path, out: Path, **options) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """By stage the latents [FRAMES, h, w, c] of the frames that are shown, and the differences before seams."""
    Recording.made = []
    usual = {"frames": "all", "steps": STEPS, "chunk": CHUNK, "eta": ETA, "tolerance": TOLERANCE}
    render(avatar, driver, out, RenderOptions(**usual, **options))
    arrays, seams = {}, {}
    for stage, sampler in zip(("outlines", "details"), Recording.made, strict=True):
        # Of the rows that have a frame the first one shows it, the others warm up on it.
        of_frames = [sampler.latents[frame] for frame in range(FRAMES)]
        shown_by = [min(rows) for rows in of_frames]
        arrays[f"{out.name}.{stage}"] = np.stack([rows[row] for rows, row in zip(of_frames, shown_by, strict=True)])
        seams[stage] = []
        for last in np.flatnonzero(np.diff(shown_by)):
            shown = of_frames[last][shown_by[last]]
            # Where a shot starts there is no warm-up.
            warmed_up = of_frames[last].get(shown_by[last + 1], shown)
            seams[stage].append(float(np.abs(warmed_up - shown).max() / shown.std()))
    return arrays, seams


def sequences(avatar_folder: Path, devices: Sequence[jax.Device], rows: Sequence[int], length: int) -> list[np.ndarray]:
    """Latents [n, h, w, c] of these of the five, in chunks of so many frames."""
    avatar = load_avatar(avatar_folder)
    stage = avatar.stages["details"]
    schedule = Schedule.from_config(avatar.base.scheduler_config, STEPS, ETA)
    always = window(schedule, 0, 1)
    sampler = StageSampler(
        (stage.controlnet, stage.unet, avatar.vae),
        schedule,
        TemporalWeights(0.6, 0.5, 0.9, 0.5),
        Steering(np.array([STRENGTHS[row] for row in rows], np.float32), always, np.float32(1), always),
        length=length,
        devices=devices,
        noise_per_frame=True,
        batch=RenderOptions.batch,
    )
    rng = np.random.default_rng(0)
    conditions = rng.integers(0, 256, (len(LENGTHS), max(LENGTHS), 64, 64, 9), np.uint8)
    texts = np.asarray(encode_prompts(avatar.base, PROMPTS))
    results = [[] for _ in rows]
    for start in range(0, max(LENGTHS[row] for row in rows), length):
        parts = []
        for row in rows:
            numbers = np.arange(min(start, LENGTHS[row]), min(start + length, LENGTHS[row]))
            text = np.broadcast_to(texts[row], (len(numbers), *texts[row].shape))
            # A shot starts in the fourth, in its second chunk.
            parts.append(Frames(conditions[row, numbers], 100 * row + numbers, (row == 3) & (numbers == 13), text))
        for result, (latents, _) in zip(results, sampler(parts), strict=True):
            result.append(latents)
    return [np.concatenate(each) for each in results]


def main(avatar: Path, driver: Path, out: Path) -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    warnings.filterwarnings("error", message="Some donated buffers were not usable")
    stages.StageSampler = Recording
    traces, original = [], stage_sampler.sample_sequence

    def counted(*arguments, **settings):
        traces.append(1)
        return original(*arguments, **settings)

    stage_sampler.sample_sequence = counted
    traced = {}

    def traces_of(name):
        traced[name] = len(traces)
        traces.clear()

    arrays, _ = rendered(avatar, driver, out / "whole")
    traces_of("whole")
    of_segments, seams = rendered(avatar, driver, out / "segments", segments=1 + len(BEGINNINGS))
    traces_of("segments")
    together = sequences(avatar, jax.devices(), range(len(LENGTHS)), LENGTH)
    traces_of("together")
    arrays |= of_segments | {f"together.{row}": latents for row, latents in enumerate(together)}
    for row, length in enumerate(LENGTHS):
        if length:
            (arrays[f"alone.{row}"],) = sequences(avatar, jax.devices()[:1], [row], CHUNK)
    traces_of("alone")
    np.savez(out / "latents.npz", **arrays)
    print(json.dumps({"traces": traced, "seams": seams}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
