"""How fast batches of conditions are made, and how long a training step would wait for them.

The capture is synthetic and is made once. The first line of each part of the table is a core that does nothing
else: it counts CPU seconds, so that what else runs on the machine does not matter; the others count what a clock shows.
"""

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

STAGES, BATCH_SIZES, PROCESSES, SIZE = ("outlines", "details"), (4, 8), (0, 1, 2), 512
# How long a step computes; here it sleeps, as the host does while an accelerator computes.
STEP_SECONDS = 0.5
TEXT = (77, 768)
COUNTED = 12


@dataclass(frozen=True)
class LoaderResult:
    """What one way of making batches gives.

    Attributes:
        processes: of their own; 0: threads, None: none, nothing is made ahead.
        images_per_second: while no step is computed.
        waiting: share of the time of a run with steps of `STEP_SECONDS` in which the step waits, 0 to 1.
    """

    stage: str
    batch_size: int
    processes: int | None
    images_per_second: float
    waiting: float


def benchmark_loader(work: Path, size: int | None, batch: int | None) -> None:
    """Prints the rates of both stages, with window 3 and degraded maps, on a synthetic capture in `work`."""
    results = []
    for stage, batch_size in itertools.product(STAGES, (batch,) if batch else BATCH_SIZES):
        samples = make_samples(work, size or SIZE, stage, batch_size)
        results.append(_alone(samples))
        results += [_ahead(samples, processes) for processes in PROCESSES]
    print(table(results))


def make_samples(work: Path, size: int, stage: str, batch_size: int) -> StageSamples:
    """Samples of a stage as training makes them, of latents and texts that are zero."""
    folder, latents = work / f"capture_{size}", work / f"latents_{size}"
    if not folder.exists():
        write_synthetic_capture(folder, 1, 4.0, size=size)
    views = training_views([open_capture(folder)], Copies(), seed=0)
    latents.mkdir(exist_ok=True)
    for name in ("mean", "std"):
        np.save(latents / f"{name}.npy", np.zeros((len(views), size // 8, size // 8, 4), np.float32))
    stored, text = Latents.open(latents), np.zeros(TEXT, np.float32)
    return StageSamples(
        views, stage, stored, text, text, text, window=3, degrade=stage == "details", prompt_dropout=0.05,
        batch_size=batch_size, seed=0,
    )  # fmt: skip


def _alone(samples: StageSamples) -> LoaderResult:
    samples(0, slice(None))
    began = time.process_time()
    for step in range(COUNTED):
        samples(step, slice(None))
    seconds = (time.process_time() - began) / COUNTED
    waiting = seconds / (seconds + STEP_SECONDS)
    return LoaderResult(samples.stage, samples.batch_size, None, samples.batch_size / seconds, waiting)


def _ahead(samples: StageSamples, processes: int) -> LoaderResult:
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
            time.sleep(STEP_SECONDS)
        total = time.monotonic() - began
    return LoaderResult(samples.stage, samples.batch_size, processes, rate, waited / total)


def table(results: list[LoaderResult]) -> str:
    """The results as text."""
    lines = [f"{'stage':10}{'batch':>6}  {'made by':16}{'images/s':>9}{f'  waiting, steps of {STEP_SECONDS} s':>26}"]
    for result in results:
        count = result.processes
        made_by = "one core alone" if count is None else f"{count} processes" if count else "threads"
        lines.append(
            f"{result.stage:10}{result.batch_size:6}  {made_by:16}{result.images_per_second:9.1f}{result.waiting:25.1%}"
        )
    return "\n".join(lines)
