"""Measures how much memory and time `svp evaluate` takes for short and long videos.

    python tools/measure_evaluation.py --out FOLDER [--frames 12000] [--size 512] [further flags of svp evaluate]

Writes two videos of a moving texture with noise (kept), and scores the first against the second: over a tenth of the
frames and over all of them, each in a process of its own. Prints frames a second and the most memory that each held.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from svp_jax.capture.video_writer import VideoWriter

RATE = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos and the reports")
    parser.add_argument("--frames", type=int, default=12000)
    parser.add_argument("--size", type=int, default=512)
    options, flags = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("frames     frames/s    memory")
    for frames in (options.frames // 10, options.frames):
        videos = [options.out / f"{seed}_{frames}.mp4" for seed in (0, 1)]
        for seed, video in enumerate(videos):
            if not video.exists():
                write_video(video, frames, options.size, seed)
        seconds, memory = evaluated([*videos, "--out", options.out / f"report_{frames}", "--force", *flags])
        print(f"{frames:>6}{frames / seconds:>13.1f}{memory:>7.0f} MiB", flush=True)


def write_video(path: Path, frames: int, size: int, seed: int) -> None:
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8), (0, 0), 3)
    rng = np.random.default_rng(seed)
    noise = rng.integers(-6, 7, (16, *texture.shape), np.int16)
    with VideoWriter(path, RATE, size, size) as video:
        for number in range(frames):
            shown = np.roll(texture, number, axis=1) + noise[rng.integers(len(noise))]
            video.write(np.clip(shown, 0, 255).astype(np.uint8))


def evaluated(arguments: list) -> tuple[float, float]:
    """Seconds that `svp evaluate` takes, and the most MiB that it holds (Linux)."""
    code = "import sys; from svp_jax.cli import main; main(); from pathlib import Path; "
    # The kernel's count for a finished child begins with what its parent held; this one is the child's alone.
    code += "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    start = time.monotonic()
    command = [sys.executable, "-c", code, "evaluate", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - start, int(done.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    main()
