"""The training loop: batches in, steps on all devices, log, previews, checkpoints, resume."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from tqdm import tqdm

from svp_jax.errors import UserError
from svp_jax.training.checkpoints import TrainingState
from svp_jax.training.devices import check_batch, first, replicate, shard
from svp_jax.training.loader import Samples, batches
from svp_jax.training.optimizer import OptimizerSettings, make_optimizer
from svp_jax.training.step import LossOf, make_train_step
from svp_jax.training.trainable import Rules, assemble, divide, flatten, table

LOG_EVERY = 10


def fit(
    name: str,
    models: Mapping[str, nnx.Module],
    rules: Rules,
    loss_of: LossOf,
    samples: Samples,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    settings: OptimizerSettings,
    save_every: int,
    preview_every: int,
    preview: Callable[[int, dict[str, nnx.Module]], None],
    loader_processes: int = 0,
) -> dict[str, nnx.Module]:
    """Trains `models` for `steps` steps and returns them; goes on from the newest checkpoint in `folder`.

    Args:
        name: of this run, in the progress bar and in messages.
        models: by name; `rules` speak of "name/path/of/parameter".
        loss_of: see `svp_jax.training.step`.
        samples: see `svp_jax.training.loader`.
        folder: holds `log.jsonl` and `checkpoints/`.
        preview: called with (finished steps, models) at step 0, every `preview_every` and at the end.
        loader_processes: that make batches; 0: threads.

    Raises:
        UserError: the loss is not finite, or the batch does not divide over the devices.
    """
    check_batch(batch_size, jax.local_device_count())
    folder.mkdir(parents=True, exist_ok=True)
    structures, flat = flatten(models)
    trained, frozen, multipliers = divide(flat, rules)
    print(f"{name}: what is trained\n{table(flat, rules)}", file=sys.stderr)
    optimizer = make_optimizer(settings.clip_norm, settings.weight_decay, tuple(multipliers.items()))
    step_fn = make_train_step(loss_of, tuple(structures.items()), optimizer)
    opt_state = optimizer.init(trained)

    checkpoints = TrainingState(folder / "checkpoints")
    start = checkpoints.latest_step() or 0
    if start:
        print(f"{name}: goes on from step {start}", file=sys.stderr)
        trained, opt_state = checkpoints.restore(start, trained, opt_state)
    else:
        # Put together as later ones are, so that what draws it compiles once.
        preview(0, assemble(structures, flat))
    _truncate_log(folder / "log.jsonl", start)
    # Every step donates what is replicated. What was loaded stays beside it, on the first device.
    trained, opt_state, frozen = replicate(trained), replicate(opt_state), replicate(frozen)
    sample_index = shard(np.arange(batch_size, dtype=np.uint32))

    def models_now() -> dict[str, nnx.Module]:
        return assemble(structures, {**first(frozen), **first(trained)})

    with (
        contextlib.closing(checkpoints),
        open(folder / "log.jsonl", "a", encoding="utf-8") as log,
        batches(samples, np.arange(batch_size), start, loader_processes) as coming,
        tqdm(total=steps, initial=start, desc=name, unit="step", file=sys.stderr, mininterval=2.0) as progress,
    ):
        began, losses = time.monotonic(), []
        for step in range(start, steps):
            batch = shard(next(coming))
            rate = np.float32(settings.learning_rate_at(step, steps))
            trained, opt_state, scalars = step_fn(
                trained, opt_state, frozen, batch, sample_index, np.uint32(seed), np.uint32(step), rate
            )
            losses.append(scalars["loss"])
            done = step + 1
            progress.update()
            saves = done % save_every == 0 or done == steps
            if done % LOG_EVERY == 0 or saves:
                values = {key: float(value) for key, value in first(scalars).items()}
                # Of all steps since the last line; the others are of this step.
                values["loss"] = float(np.mean([first(loss) for loss in losses]))
                values["learning_rate"] = float(rate)
                values["images_per_second"] = len(losses) * batch_size / (time.monotonic() - began)
                losses = []
                log.write(json.dumps({"step": done, **values}) + "\n")
                log.flush()
                progress.set_postfix_str(f"loss {values['loss']:.4f}")
                if not all(map(math.isfinite, values.values())):
                    what = "the gradient" if math.isfinite(values["loss"]) else "the loss"
                    raise UserError(
                        f"{name}: {what} is not finite at step {done}; the last checkpoint is kept in {folder}; "
                        "start anew with a lower learning_rate"
                    )
            # The preview first: a run that is killed in between makes it again.
            if done % preview_every == 0 or done == steps:
                preview(done, models_now())
            if saves:
                checkpoints.save(done, first(trained), first(opt_state))
            if not losses:
                # Neither the preview nor the saving is training.
                began = time.monotonic()
    return models_now()


def _truncate_log(path: Path, step: int) -> None:
    """Drops the lines after the checkpoint, which the resumed run will write again, and one that a kill cut off."""
    if not path.exists():
        return
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    path.write_text("".join(line + "\n" for line in whole if json.loads(line)["step"] <= step), encoding="utf-8")
