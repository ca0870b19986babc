"""The tools that trained the tiny base import, and what they share trains and draws."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import tiny_base_control  # noqa: F401
import tiny_base_text  # noqa: F401
import tiny_base_unet  # noqa: F401
import tiny_base_vae  # noqa: F401
from tiny_base_settings import Sheets, rows_of, run_settings

from svp_jax.capture.images import read_png, write_png
from svp_jax.training.fit import fit
from svp_jax.training.step.devices import Devices


def test_the_shared_settings_train_and_draw(tmp_path):
    seen = []

    def draw(path, models):
        seen.append(path.name)
        write_png(path, np.full((2, 2, 3), len(seen), np.uint8))

    def loss_of(models, batch, keys):
        return jnp.square(models["line"](batch["x"])).mean()

    def batch_of(step):
        return {"x": np.full((4, 2), step, np.float32)}

    fit(
        "line", {"line": nnx.Linear(2, 1, rngs=nnx.Rngs(0))}, ((r"line/.*", 1.0),), loss_of, rows_of(batch_of),
        tmp_path, run_settings(3, 4, 1e-3, save_every=2), Devices.of("pmap"), Sheets(tmp_path, "line", draw),
    )  # fmt: skip
    assert seen == ["line_000000.png", "line_000003.png"]
    assert read_png(tmp_path / "line_000003.png")[0, 0, 0] == 2
