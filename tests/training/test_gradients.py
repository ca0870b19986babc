"""Gradients of a whole stage, in float32 and bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
from factories import ENCODER, SCHEDULER
from flax import nnx

from svp_jax.diffusion.schedule import SchedulerConfig
from svp_jax.models.controlnet import controlnet_from_unet
from svp_jax.training.stage import stage_loss
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.gradients import Gradients, Numbers
from svp_jax.training.step.packing import Packing
from svp_jax.training.step.trainable import divide, flatten, rounded, stage_rules
from svp_jax.weights.folder import load_model

ROWS = 4


def gradients(base_folder, precision: str, remat: str) -> tuple[float, np.ndarray]:
    """(loss, all gradients as one vector) of the same random batch."""
    rng = np.random.default_rng(0)
    unet = load_model(base_folder / "unet", jnp.dtype(precision))
    structures, flat = flatten({"controlnet": controlnet_from_unet(unet, 9, nnx.Rngs(0)), "unet": unet})
    # Zero convolutions would hide the ControlNet.
    flat = {name: x if np.any(x) else 0.02 * rng.standard_normal(x.shape, np.float32) for name, x in flat.items()}
    trained, frozen, _ = divide(flat, stage_rules("unlocked", 0.5))
    packing, devices = Packing.of(trained), Devices.of("pmap")
    loss_of = stage_loss(SchedulerConfig.from_json(SCHEDULER), 0.18215, 1.0, None)
    batch = {
        "mean": rng.standard_normal((ROWS, 8, 8, 4), np.float32),
        "std": np.full((ROWS, 8, 8, 4), 0.1, np.float32),
        "condition": rng.integers(0, 256, (ROWS, 64, 64, 9)).astype(np.uint8),
        "text": rng.standard_normal((ROWS, 77, ENCODER["cross_attention_dim"]), np.float32),
        "row": np.arange(ROWS, dtype=np.uint32),
    }
    loss, found = Gradients(loss_of, structures, packing, devices, remat)(
        devices.place(packing.pack(trained)),
        devices.place(rounded(frozen, precision)),
        [devices.place_rows({name: x[None] for name, x in batch.items()})],
        Numbers(np.uint32(0), np.uint32(0), np.float32(0), np.float32(0)),
    )
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(found))
    return float(loss), np.concatenate([np.ravel(found[name]) for name in sorted(found)])


def test_bfloat16_gradients_point_where_float32_ones_do(base_folder):
    loss, exact = gradients(base_folder, "float32", "none")
    rounded_loss, rounded = gradients(base_folder, "bfloat16", "light")
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    print(f"bfloat16 against float32: loss {rounded_loss:.4f}, {loss:.4f}; cosine of the gradients {cosine:.5f}")
    # bfloat16 has 8 bits: an error of 0.4 % in each of some hundred operations, mostly of either sign.
    assert abs(rounded_loss / loss - 1) < 0.02
    assert cosine > 0.995
    assert abs(np.linalg.norm(rounded) / np.linalg.norm(exact) - 1) < 0.05
    assert not np.array_equal(rounded, exact)
