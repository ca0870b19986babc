"""The training loop on a line to be fitted; as a program, for tests that stop it."""

import dataclasses
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from factories import NoPreview
from flax import nnx

from svp_jax.errors import Stopped
from svp_jax.training import loop
from svp_jax.training.fit import fit
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.optimizer import OptimizerSettings

OPTIMIZER = OptimizerSettings(learning_rate=0.05, warmup_steps=0, decay="constant", clip_norm=1.0, weight_decay=0.0)

SETTINGS = RunSettings(steps=12, batch_size=4, seed=0, optimizer=OPTIMIZER, save_every=4, preview_every=6)


def squared_error(models, batch, keys):
    """With a little noise, so that the keys count."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (1,)))(keys)
    return jnp.square(models["line"](batch["x"]) - batch["y"] + 1e-3 * noise).mean()


def samples(step: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    x = np.random.default_rng(step).standard_normal((4, 2)).astype(np.float32)[rows]
    return {"x": x, "y": x @ np.float32([[2.0], [-1.0]]) + 3}


def run(
    folder,
    *,
    rules=((r"line/.*", 1.0),),
    loss_of=squared_error,
    samples=samples,
    preview=lambda step, models: None,
    devices=None,
    **changes,
) -> dict[str, nnx.Module]:
    line = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    settings = dataclasses.replace(SETTINGS, **changes)
    look, devices = NoPreview(folder, preview), devices or Devices.of("pmap")
    return fit("toy", {"line": line}, rules, loss_of, samples, folder, settings, devices, look)


def slowly(step: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    time.sleep(0.01)
    return samples(step, rows)


def main(folder: str, steps: str, loader_processes: str = "0") -> None:
    """A run that is nearly always saving; prints "finished" and its parameters, exact to the bit."""
    loop.LOG_EVERY = 1
    line = run(
        Path(folder), samples=slowly, steps=int(steps), save_every=2, preview_every=50, ema_decay=0.99,
        accumulation=2, loader_processes=int(loader_processes),
    )["line"]  # fmt: skip
    print("finished", np.asarray(line.kernel[...]).tobytes().hex(), np.asarray(line.bias[...]).tobytes().hex())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Stopped as stop:
        print(stop)
        sys.exit(128 + stop.signal)
