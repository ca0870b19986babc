"""A small training run as a program, one of several processes where its flags say so.

    python processes_run.py FOLDER STEPS SECONDS [COORDINATOR PROCESSES PROCESS]

Prints one line of JSON: what was trained, how many devices there were, and after what message it stopped.
"""

import json
import signal
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from factories import NoPreview
from flax import nnx
from toy_run import OPTIMIZER, squared_error

from svp_jax.errors import Stopped, UserError
from svp_jax.training import hosts, loop
from svp_jax.training.fit import fit
from svp_jax.training.settings import RunSettings
from svp_jax.training.step.devices import Devices


class Samples:
    """Of a line to be fitted, each batch after some seconds."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __call__(self, step: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(self.seconds)
        x = np.random.default_rng(step).standard_normal((8, 2)).astype(np.float32)[rows]
        return {"x": x, "y": x @ np.float32([[2.0], [-1.0]]) + 3}


def refuse() -> None:
    raise UserError(f"--out of process {jax.process_index()} – no")


def main(folder: str, steps: str, seconds: str, coordinator=None, processes=None, process=None) -> None:
    # As in a terminal, whatever started the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hosts.connect(coordinator, processes and int(processes), process and int(process))
    if not hosts.is_first():
        warnings.simplefilter("error")
    jax.config.update("jax_default_matmul_precision", "highest")
    loop.LOG_EVERY = 1
    settings = RunSettings(int(steps), 8, 0, OPTIMIZER, save_every=50, preview_every=50)
    line = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    found = {"process": jax.process_index(), "devices": jax.device_count()}
    folder = Path(folder)
    try:
        hosts.first_does(refuse)
    except UserError as error:
        found["told"] = str(error)
    try:
        # A stage before, so that counts of steps begin anew.
        for name in ("first", "second"):
            arguments = {"line": line}, ((r"line/.*", 1.0),), squared_error, Samples(float(seconds)), folder / name
            line = fit(name, *arguments, settings, Devices.of("pmap"), NoPreview(folder))["line"]
        found["trained"] = [*map(float, jnp.ravel(line.kernel[...])), float(line.bias[0])]
    except Stopped as stop:
        found |= {"stopped": str(stop), "signal": stop.signal}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
