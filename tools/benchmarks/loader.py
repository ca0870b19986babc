"""How fast batches of conditions are made, and how long a training step would wait for them.

    python tools/benchmarks/loader.py --work WORK [--size 512] [--step-seconds 0.5]

The capture is synthetic and is made once, in WORK. The first line of each part of the table is a core that does nothing
else: it counts CPU seconds, so that what else runs on the machine does not matter; the others count what a clock shows.
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import open_capture
from svp_jax.capture.synthetic.capture import write_synthetic_capture
from svp_jax.training.config import Copies
from svp_jax.training.data.latents import Latents
from svp_jax.training.data.loader import READY, READY_EACH, batches
from svp_jax.training.data.views import training_views
from svp_jax.training.stage import StageSamples

TEXT = (77, 768)
COUNTED = 12


@dataclass(frozen=True)
class LoaderResult:
    """What one way of making batches gives.

    Attributes:
        processes: of their own; 0: threads, None: none, nothing is made ahead.
        images_per_second: while no step is computed.
        waiting: share of the time of a run with steps of `step_seconds` in which the step waits, 0 to 1.
    """

    stage: str
    batch_size: int
    processes: int | None
    images_per_second: float
    waiting: float


def benchmark_loader(
    work: Path, size: int, batch_sizes: tuple[int, ...], processes: tuple[int, ...], step_seconds: float
) -> list[LoaderResult]:
    """Measures both stages, with window 3 and degraded maps, on a synthetic capture in `work`.

    Args:
        step_seconds: how long a step computes; here it sleeps, as the host does while an accelerator computes.
    """
    results = []
    for stage, batch_size in itertools.product(("outlines", "details"), batch_sizes):
        samples = make_samples(work, size, stage, batch_size)
        results.append(_alone(samples, step_seconds))
        for count in processes:
            results.append(_ahead(samples, count, step_seconds))
    return results


def make_samples(work: Path, size: int, stage: str, batch_size: int) -> StageSamples:
    """Samples of a stage as training makes them, of latents and texts that are zero."""
    folder, latents = work / f"capture_{size}", work / f"latents_{size}"
    if not folder.exists():
        write_synthetic_capture(folder, 1, 4.0, size=size)
    views = training_views([open_capture(folder)], Copies(), seed=0)
    latents.mkdir(exist_ok=True)
    for name in ("mean", "std"):
        np.save(latents / f"{name}.npy", np.zeros((len(views), size // 8, size // 8, 4), np.float32))
    stored, text = Latents(latents, len(views)), np.zeros(TEXT, np.float32)
    return StageSamples(
        views, stage, stored, text, text, text, window=3, degrade=stage == "details", prompt_dropout=0.05,
        batch_size=batch_size, seed=0,
    )  # fmt: skip


def _alone(samples: StageSamples, step_seconds: float) -> LoaderResult:
    samples(0, slice(None))
    began = time.process_time()
    for step in range(COUNTED):
        samples(step, slice(None))
    seconds = (time.process_time() - began) / COUNTED
    waiting = seconds / (seconds + step_seconds)
    return LoaderResult(samples.stage, samples.batch_size, None, samples.batch_size / seconds, waiting)


def _ahead(samples: StageSamples, processes: int, step_seconds: float) -> LoaderResult:
    rows = np.arange(samples.batch_size)
    ready = READY_EACH * processes or READY
    with batches(samples, rows, 0, processes) as coming:
        # What was made while the processes started does not count, nor do those that lie ready after it.
        for _ in range(1 + 2 * ready):
            next(coming)
        began = time.monotonic()
        for _ in range(COUNTED):
            next(coming)
        rate = COUNTED * samples.batch_size / (time.monotonic() - began)
        waited, began = 0.0, time.monotonic()
        for _ in range(COUNTED + ready):
            asked = time.monotonic()
            next(coming)
            waited += time.monotonic() - asked
            time.sleep(step_seconds)
        total = time.monotonic() - began
    return LoaderResult(samples.stage, samples.batch_size, processes, rate, waited / total)


def table(results: list[LoaderResult], step_seconds: float) -> str:
    """The results as text."""
    lines = [f"{'stage':10}{'batch':>6}  {'made by':16}{'images/s':>9}{f'  waiting, steps of {step_seconds} s':>26}"]
    for result in results:
        count = result.processes
        made_by = "one core alone" if count is None else f"{count} processes" if count else "threads"
        lines.append(
            f"{result.stage:10}{result.batch_size:6}  {made_by:16}{result.images_per_second:9.1f}{result.waiting:25.1%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the capture, made where it is not there")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--step-seconds", type=float, default=0.5)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    measured = benchmark_loader(
        given.work, given.size, tuple(given.batch_size), tuple(given.processes), given.step_seconds
    )
    print(table(measured, given.step_seconds))
