"""Models in, trained models out: one run of the loop from its newest checkpoint to its end."""

import contextlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from flax import nnx

from svp_jax.errors import UserError
from svp_jax.training import hosts
from svp_jax.training.data.loader import Samples
from svp_jax.training.loop import Run, train_steps
from svp_jax.training.saving.checkpoints import Checkpoints
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices, check_batches
from svp_jax.training.step.gradients import LossOf
from svp_jax.training.step.memory import MemoryNeed, check_memory, explain_out_of_memory, remedies
from svp_jax.training.step.optimizer import make_optimizer
from svp_jax.training.step.packing import Packing
from svp_jax.training.step.train_step import TrainState, first_state, make_train_step, state_shapes
from svp_jax.training.step.trainable import Flat, Rules, assemble, divide, flatten, rounded, table
from svp_jax.training.watching.log import TrainingLog


class Preview(Protocol):
    """Looks at the models while they are trained."""

    def __call__(self, step: int, models: dict[str, nnx.Module]) -> Mapping[str, float]:
        """Writes a picture after `step` finished steps; returns scores for the log."""
        ...

    def path(self, step: int) -> Path:
        """Where that picture is."""
        ...


def fit(
    name: str,
    models: Mapping[str, nnx.Module],
    rules: Rules,
    loss_of: LossOf,
    samples: Samples,
    folder: Path,
    settings: RunSettings,
    devices: Devices,
    preview: Preview | None,
) -> dict[str, nnx.Module]:
    """Trains `models` and returns them, or their moving average; goes on from the newest checkpoint in `folder`.

    With several processes all make the same call; process 0 writes, and only its result counts.

    Args:
        name: of this run, in the progress bar and in messages.
        models: by name; `rules` speak of "name/path/of/parameter".
        loss_of: see `svp_jax.training.step.gradients`.
        folder: holds `log.jsonl`, `tensorboard/` and `checkpoints/`.
        preview: called at step 0, every `preview_every` and at the end, by process 0; None looks at nothing.

    Raises:
        UserError: the batch does not divide over the devices, they have too little memory, the checkpoints do not fit
            or are all damaged, or the loss is not finite (the last good state is saved).
        Stopped: a signal asked to stop; the state is saved.
    """
    check_batches({"batch_size": (settings.batch_size, settings.accumulation)}, devices.count)
    if hosts.is_first():
        folder.mkdir(parents=True, exist_ok=True)
    structures, flat = flatten(models)
    trained, frozen, multipliers = divide(flat, rules)
    hosts.say(f"{name}: what is trained\n{table(flat, rules)}")
    packing = Packing.of(trained)
    trained = packing.pack(trained)
    optimizer = make_optimizer(
        settings.optimizer.clip_norm,
        settings.optimizer.weight_decay,
        tuple(multipliers.items()),
        packing,
        settings.optimizer.state,
    )
    step_fn = make_train_step(loss_of, tuple(structures.items()), packing, optimizer, devices, settings.remat)
    run = Run(name, samples, folder, settings, devices, step_fn)
    shapes = state_shapes(trained, optimizer, settings.ema_decay > 0, devices)
    exact, frozen = frozen, rounded(frozen, settings.precision)
    # Before anything is placed: activations are known only when the step is compiled.
    least = MemoryNeed.before_steps(shapes, shapes.trained, frozen, devices)
    check_memory(name, least, devices, settings)
    with (
        explain_out_of_memory(f"{name} needs more than {least}; {remedies(least, devices, settings)}"),
        contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints,
    ):
        start, state = checkpoints.restore(shapes, run.about) or (0, None)
        if start:
            hosts.say(f"{name}: goes on from step {start}")
        else:
            state = first_state(trained, optimizer, settings.ema_decay > 0, devices)
        frozen = devices.place(frozen)

        def usable(state: TrainState, rest: Flat) -> dict[str, nnx.Module]:
            return assemble(structures, {**rest, **packing.unpack(devices.on_one(state.ema or state.trained))})

        def look(log: TrainingLog | None, done: int, state: TrainState) -> Mapping[str, float]:
            if preview is None:
                return {}
            scores = {}
            try:
                with explain_out_of_memory("what is trained leaves too little; training goes on"):
                    # All processes take part where parameters are shared out.
                    shown = usable(state, devices.on_one(frozen))
                    if log is not None:
                        scores = preview(done, shown)
                        log.picture(done, "preview", preview.path(done))
            except UserError as error:
                # A full disk or device: no reason to stop training.
                warnings.warn(f"{name}: the preview of step {done} is left out: {error}", stacklevel=2)
            hosts.wait_for_all("preview")
            return scores

        # Not the frozen parameters as they were rounded for training: those as they came.
        return usable(train_steps(run, start, state, frozen, checkpoints, look), exact)
