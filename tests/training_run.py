"""A short run of `train` that logs every step; as a program, for tests that need other devices than these."""

import dataclasses
import json
import sys
from pathlib import Path

from svp_jax.training import loop
from svp_jax.training.config import Stage, TrainConfig, VAEPass
from svp_jax.training.train import train

CONFIG = TrainConfig(
    # Equal but for what they learn, so that one compilation serves both.
    outlines=Stage(steps=4, learning_rate=1e-3, unet_learning_rate=5e-4, trainable="unlocked"),
    details=Stage(steps=4, learning_rate=1e-3, unet_learning_rate=5e-4, trainable="unlocked"),
    vae=VAEPass(trainable="decoder", steps=4, batch_size=4, learning_rate=1e-3),
    batch_size=4,
    warmup_steps=2,
    prompt="a person",
    prompt_dropout=0.3,
    save_every=2,
    preview_every=2,
    preview_steps=2,
    loader_processes=0,
)


def read_log(folder: Path) -> list[dict]:
    """The entries of one stage's log in an avatar."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def loss_trace(base: Path, capture: Path, out: Path) -> dict[str, list[float]]:
    """Losses and gradient norms of every step of a details stage of 8 steps, global batch 4."""
    details = dataclasses.replace(CONFIG.details, steps=8)
    config = dataclasses.replace(CONFIG, details=details, vae=VAEPass(), save_every=8, preview_every=8)
    loop.LOG_EVERY = 1
    train(capture, str(base), out, config, "details")
    entries = read_log(out / "training" / "details")
    return {key: [entry[key] for entry in entries] for key in ("loss", "gradient_norm")}


if __name__ == "__main__":
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    trace = loss_trace(*map(Path, sys.argv[1:]))
    print(json.dumps({"devices": jax.local_device_count(), **trace}))
