"""Measures whether a long render stays as fast and as small as a short one.

    python tools/measure_length.py DEMO --out FOLDER [--frames 12000] [further flags of svp render]

Renders what `svp demo` wrote with a synthetic capture of so many frames (25 a second; drawn first, and kept), as a
program of its own, and looks at it every quarter of a second: at its resident memory, and at how many frames are
finished. Prints the memory near frame 500 and at the end, and the time and processor time a frame over the thousand
frames after 500 and the last thousand.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from svp_jax.capture.synthetic.capture import write_synthetic_capture
from svp_jax.manifest import partial_folder, read_manifest

RATE = 25
# The first frames compile, and fill caches and queues.
WARM_UP, WINDOW = 500, 1000
# Of the demo's person.
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what `svp demo` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the capture and the render")
    parser.add_argument("--frames", type=int, default=12000)
    options, flags = parser.parse_known_args()
    if options.frames < WARM_UP + 2 * WINDOW:
        parser.error(f"--frames is {options.frames}, allowed are {WARM_UP + 2 * WINDOW} or more")
    options.out.mkdir(parents=True, exist_ok=True)
    # What an interrupted measurement left would be gone on with.
    shutil.rmtree(partial_folder(options.out / "render"), ignore_errors=True)
    capture, render = options.out / f"capture_{options.frames}", options.out / "render"
    if not capture.exists():
        size = read_manifest(options.demo / "capture", "capture")["size"]
        write_synthetic_capture(capture, SEED, options.frames / RATE, size=size)
    command = [sys.executable, "-m", "svp_jax", "render", options.demo / "avatar", capture, "--out", render]
    command += ["--force", "--frames", "all", "--motion", "absolute", *flags]
    rows = watched([str(part) for part in command], render)
    np.savetxt(options.out / "samples.csv", rows, "%.3f", ",", header="seconds,cpu_seconds,frames,resident_mib")
    print(report(rows, options.frames))


def watched(command: list[str], render: Path) -> np.ndarray:
    """Runs `command`; rows of seconds, processor seconds, finished frames and MiB of resident memory."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    frames = render.with_name(f"{render.name}.partial") / "frames"
    start, rows = time.monotonic(), []
    process = subprocess.Popen(command)
    while process.poll() is None:
        time.sleep(0.25)
        try:
            done = sum(1 for _ in frames.iterdir())
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
            resident = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1]) * page / 2**20
        except (OSError, IndexError):
            continue
        rows.append((time.monotonic() - start, (int(fields[11]) + int(fields[12])) / ticks, done, resident))
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return np.array(rows)


def report(rows: np.ndarray, frames: int) -> str:
    # Up to the last frame's picture: the hashes of all files come after it.
    rows = rows[: np.argmax(rows[:, 2] >= frames) + 1]
    seconds, cpu, done, resident = rows.T

    def rate(first: int, last: int, clock: np.ndarray) -> float:
        """Milliseconds a frame."""
        times = np.interp([first, last], done, clock)
        return 1000 * (times[1] - times[0]) / (last - first)

    def memory(near: int) -> float:
        return float(np.median(resident[np.abs(done - near) <= 100]))

    early, late = (WARM_UP, WARM_UP + WINDOW), (frames - WINDOW, frames)
    lines = [
        f"{frames} frames; memory at frame {WARM_UP} {memory(WARM_UP):.0f} MiB, at the end {memory(frames):.0f} MiB "
        f"({memory(frames) / memory(WARM_UP) - 1:+.1%}), at most {resident.max():.0f} MiB"
    ]
    for name, clock in (("time", seconds), ("processor time", cpu)):
        first, last = rate(*early, clock), rate(*late, clock)
        lines.append(
            f"{name} a frame: {first:.1f} ms from {early[0]} to {early[1]}, "
            f"{last:.1f} ms in the last {WINDOW} ({last / first - 1:+.1%})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
