"""A layer that is trained on 1, 2 and 4 devices by turns; as a program, which has 4.

    python other_devices_run.py FOLDER

Prints one line of JSON, of several runs: what they trained, and how many bytes a device held meanwhile.
"""

import dataclasses
import gc
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from factories import NoPreview
from flax import nnx
from toy_run import OPTIMIZER

from svp_jax.models.layers import Conv
from svp_jax.training.fit import fit
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices

# Large enough for its kernel to be shared out.
WIDTH = 256
GENTLE = dataclasses.replace(OPTIMIZER, learning_rate=0.01)
SETTINGS = RunSettings(steps=12, batch_size=8, seed=0, optimizer=GENTLE, save_every=4, preview_every=3)
TARGET = np.random.default_rng(1).standard_normal((WIDTH, WIDTH)).astype(np.float32) / 16
SMALLER = {
    "ema_decay": 0.5,
    "accumulation": 2,
    # Only at the end: what is saved of an array that lies whole on several devices, each cuts out of it first.
    "save_every": 12,
    "remat": "full",
    "optimizer": dataclasses.replace(GENTLE, state="bfloat16"),
}


class Interrupted(Exception):
    """Ends a run in a preview."""


class Network(nnx.Module):
    """Of one layer, as fsdp gathers the layers that it knows."""

    def __init__(self):
        self.layer = Conv(WIDTH, WIDTH, 1, dtype=jnp.float32, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(x[:, None, None, :])[:, 0, 0]


def samples(step: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    x = np.random.default_rng(step).standard_normal((8, WIDTH)).astype(np.float32)[rows]
    return {"x": x, "y": x @ TARGET}


def loss(models, batch, keys):
    return jnp.square(models["network"](batch["x"]) - batch["y"]).mean()


def on(parallel: str, count: int) -> Devices:
    return Devices.of(parallel, jax.devices()[:count])


def run(folder: Path, devices: Devices, ends_at: int | None = None, held: list | None = None, **changes) -> list | None:
    """What it trained, or None where it is interrupted in the preview of step `ends_at`.

    Args:
        held: gets the bytes of all arrays on the last of the devices, at every preview.
    """

    def look(step: int, models: dict) -> None:
        if step == ends_at:
            raise Interrupted
        if held is not None:
            # By their shardings: to look at their parts would make arrays of them.
            there = [x for x in jax.live_arrays() if devices.mesh.devices[-1] in x.sharding.device_set]
            held.append(sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in there))

    settings = dataclasses.replace(SETTINGS, **changes)
    try:
        networks, rules, preview = {"network": Network()}, ((r".*", 1.0),), NoPreview(folder, look)
        trained = fit("network", networks, rules, loss, samples, folder, settings, devices, preview)
    except Interrupted:
        return None
    return trained["network"].layer.kernel[...].ravel().tolist()


def main(folder: Path) -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    found = {}
    # First of all, as arrays of earlier runs might still be there.
    held = {"pmap": [], "fsdp": []}
    for parallel, of_one in held.items():
        gc.collect()
        found[parallel] = run(folder / parallel, on(parallel, 4), held=of_one, **SMALLER)
    found["untroubled"] = run(folder / "untroubled", on("pmap", 1))
    # Each goes on from the checkpoint of the one before: of step 4, and of step 8.
    run(folder / "moved", on("pmap", 4), ends_at=6)
    run(folder / "moved", on("pmap", 1), ends_at=9)
    found["moved"] = run(folder / "moved", on("fsdp", 2))
    run(folder / "shared", on("fsdp", 4), ends_at=6)
    found["from shared"] = run(folder / "shared", on("pmap", 2))
    found["alone"] = run(folder / "alone", on("pmap", 1), **SMALLER)
    print(json.dumps({**found, "held": held}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
