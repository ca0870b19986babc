"""The training loop: batches in, steps on all devices, log, previews, checkpoints."""

import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from svp_jax.errors import Stopped, UserError
from svp_jax.training import hosts
from svp_jax.training.data import loader
from svp_jax.training.saving.checkpoints import Checkpoints
from svp_jax.training.saving.stop import stop_on_signals
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.gradients import Numbers
from svp_jax.training.step.memory import check_memory, explain_out_of_memory, need, remedies
from svp_jax.training.step.optimizer import ema_decay_at
from svp_jax.training.step.train_step import TrainState, TrainStep
from svp_jax.training.step.trainable import Flat
from svp_jax.training.watching.clock import Clock
from svp_jax.training.watching.diagnose import not_finite_message
from svp_jax.training.watching.log import TrainingLog
from svp_jax.training.watching.memory_use import peak_memory

LOG_EVERY = 10


@dataclass(frozen=True)
class Run:
    """What stays the same from step to step."""

    name: str
    samples: loader.Samples
    folder: Path
    settings: RunSettings
    devices: Devices
    step_fn: TrainStep

    @property
    def about(self) -> dict:
        """What makes batch t and its randomness: a checkpoint goes on with the same."""
        settings = self.settings
        return {"run": self.name, "seed": settings.seed, "batch_size": settings.batch_size, "steps": settings.steps}

    def numbers(self, step: int) -> Numbers:
        settings = self.settings
        return Numbers(
            np.uint32(settings.seed),
            np.uint32(step),
            np.float32(settings.optimizer.learning_rate_at(step, settings.steps)),
            np.float32(ema_decay_at(settings.ema_decay, step)),
        )


def train_steps(
    run: Run,
    start: int,
    state: TrainState,
    frozen: Flat,
    checkpoints: Checkpoints,
    look: Callable[[TrainingLog | None, int, TrainState], Mapping[str, float]],
) -> TrainState:
    """The state after all steps.

    Args:
        start: steps that `state`, which is given away, has behind it.
        frozen: what is not trained, on the run's devices.
        look: called after `start` 0, every `preview_every` and the last step with the log (of the first process, else
            None), the finished steps and the state; in all processes, as parameters may be shared out over them.
            What it returns is logged.

    Raises:
        UserError: too little memory, or a loss or gradient that is not finite (the last good state is saved).
        Stopped: a signal asked to stop; the state is saved.
    """
    settings = run.settings
    rows = run.devices.rows(settings.batch_size, settings.accumulation)
    with contextlib.ExitStack() as stack:
        batches = stack.enter_context(loader.batches(run.samples, rows.reshape(-1), start, settings.loader_processes))

        def parts_of(batch: dict) -> list[dict]:
            arrays = {"row": rows.reshape(-1).astype(np.uint32), **batch}
            arrays = {key: x.reshape(*rows.shape, *x.shape[1:]) for key, x in arrays.items() if key != loader.ORIGIN}
            return [run.devices.place_rows({key: x[n] for key, x in arrays.items()}) for n in range(len(rows))]

        log = stack.enter_context(TrainingLog(run.folder, start)) if hosts.is_first() else None
        if start < settings.steps:
            batch = next(batches)
            coming = parts_of(batch)
            hosts.say(f"{run.name}: compiling the step, which takes minutes where it is new")
            program = run.step_fn.compile(state, frozen, coming[0], run.numbers(start), len(coming))
            hosts.wait_for_all("compiled")
            found = need(state, state.trained, frozen, program, run.devices)
            hosts.say(check_memory(run.name, found, run.devices, settings))
            stack.enter_context(
                explain_out_of_memory(f"{run.name} needs {found}; {remedies(found, run.devices, settings)}")
            )
        if start == 0:
            _write(log, 0, look(log, 0, state))
        # Only now: while it compiles nothing would look at the flag, and a signal may end the process at once. With
        # several processes JAX handles SIGTERM from their start to their end.
        stop = None
        if jax.process_count() > 1:
            stack.enter_context(hosts.interrupt_stops_all())
        else:
            stop = stack.enter_context(stop_on_signals())
            stack.enter_context(stop.heeded())
        progress = stack.enter_context(_progress(run, start))
        clock, losses, before = Clock(), [], ()
        for step in range(start, settings.steps):
            done = step + 1
            last = done == settings.steps
            due = last or done % settings.save_every == 0
            logged = due or done % LOG_EVERY == 0
            state, scalars = run.step_fn(state, frozen, coming, run.numbers(step), measured=logged)
            losses.append(scalars["loss"])
            now = done, scalars, batch.get(loader.ORIGIN)
            if not last:
                with clock.waiting():
                    batch = next(batches)
                coming = parts_of(batch)
            # One step behind, so that the device has work meanwhile.
            if before:
                _check_finite(run, *before, state, checkpoints)
            before = now
            progress.update()
            stopping = not last and (stop.requested if stop else hosts.asked_to_stop())
            saves = due or stopping
            previews = last or done % settings.preview_every == 0
            values = {}
            if logged or stopping or previews:
                _check_finite(run, *now, state, checkpoints)
            if logged or stopping:
                values = _values(run, scalars, losses, clock, step)
                progress.set_postfix_str(f"loss {values['loss']:.4f}")
                losses = []
            # The preview first: a run that is killed in between makes it again.
            if previews and not stopping:
                with clock.paused():
                    values |= look(log, done, state)
            if values:
                _write(log, done, values)
            if saves:
                with clock.paused():
                    checkpoints.save(done, state, run.about)
            if stopping:
                saved = checkpoints.wait()
                kept = "nothing is saved" if saved is None else f"the state after step {saved} is saved"
                raise Stopped(f"{run.name}: stopped at step {done}; {kept}", stop.signal if stop else signal.SIGTERM)
            if not losses:
                clock.restart()
        checkpoints.wait()
    return state


def _check_finite(
    run: Run, done: int, scalars: dict, origins: np.ndarray | None, state: TrainState, checkpoints: Checkpoints
) -> None:
    """Raises UserError, and saves the last good state, where step number `done` was not finite."""
    if scalars["finite"]:
        return
    # Nothing has changed since the step before.
    good = state._replace(finite=run.devices.place(np.True_))
    if done > 1:
        checkpoints.save(done - 1, good, run.about)
    saved = checkpoints.wait()
    packing = run.step_fn.packing
    parameters = packing.unpack(run.devices.on_one(state.trained))
    raise UserError(
        not_finite_message(
            run.name,
            done,
            float(scalars["loss"]),
            _whose(),
            origins,
            {name: float(np.linalg.norm(np.asarray(x))) for name, x in parameters.items()},
            dict(zip(packing.names, np.asarray(scalars["gradient_norms"]).tolist(), strict=True)),
            None if saved is None else (saved, run.folder / "checkpoints"),
            float(run.numbers(done - 1).learning_rate),
            run.settings.precision,
        )
    )


def _whose() -> str:
    """Of whom a batch is that this process has rows of."""
    return "the batch" if jax.process_count() == 1 else f"process {jax.process_index()}'s part of the batch"


def _values(run: Run, scalars: dict, losses: list, clock: Clock, step: int) -> dict[str, float]:
    """What is logged after step number `step`, counted from 0."""
    # The last two where they were measured: not where a signal stops the run at any step.
    shown = ("loss", "gradient_norm", "update_norm", "parameter_norm")
    values = {key: float(scalars[key]) for key in shown if key in scalars}
    # Of all steps since the last line; the others are of this step.
    values["loss"] = float(np.mean([float(loss) for loss in losses]))
    values["learning_rate"] = float(run.numbers(step).learning_rate)
    values["images_per_second"] = len(losses) * run.settings.batch_size / clock.seconds
    values["waiting"] = clock.waited / clock.seconds
    if (peak := peak_memory()) is not None:
        values["peak_memory"] = peak
    return values


def _write(log: TrainingLog | None, done: int, values: Mapping[str, float]) -> None:
    if log is not None and values:
        log.write(done, values)


def _progress(run: Run, start: int) -> tqdm:
    return tqdm(
        total=run.settings.steps,
        initial=start,
        desc=run.name,
        unit="step",
        file=sys.stderr,
        mininterval=2.0,
        disable=not hosts.is_first(),
    )
