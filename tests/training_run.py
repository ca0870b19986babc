"""A short run of `train` that logs every step; as a program, for tests that need other devices than these."""

import dataclasses
import json
import sys
from pathlib import Path

import jax

from svp_jax.training import hosts, loop
from svp_jax.training.config import Stage, TrainConfig, VAEPass
from svp_jax.training.step import devices
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


def trace(base: Path, capture: Path, out: Path, stage: str = "details", **changes) -> dict[str, list[float]]:
    """Losses and gradient norms of every step of the details stage, 20 steps, global batch 4."""
    details = dataclasses.replace(CONFIG.details, steps=20)
    plain = {"vae": VAEPass(), "save_every": 20, "preview_every": 20}
    config = dataclasses.replace(CONFIG, details=details, **{**plain, **changes})
    train(capture, str(base), out, config, stage)
    entries = [entry for entry in read_log(out / "training" / "details") if "loss" in entry]
    return {key: [entry[key] for entry in entries] for key in ("loss", "gradient_norm")}


def main(base: str, capture: str, out: str, ways: str, *processes: str) -> None:
    """Prints the traces of the `ways` (pmap, fsdp, or "both" stages; joined by commas) on this program's devices."""
    if processes:
        coordinator, count, number = processes
        hosts.connect(coordinator, int(count), int(number))
    jax.config.update("jax_default_matmul_precision", "highest")
    loop.LOG_EVERY = 1
    # Else the small networks of the tests would not be shared out.
    devices.SMALLEST_SHARED_OUT = 64
    traces = {}
    for way in ways.split(","):
        # Both on other devices use the tuned VAE.
        changes = {"stage": "both", "vae": CONFIG.vae} if way == "both" else {"parallel": way}
        traces[way] = trace(Path(base), Path(capture), Path(out) / way, **changes)
    print(json.dumps({"devices": jax.device_count(), "processes": jax.process_count(), **traces}))


if __name__ == "__main__":
    main(*sys.argv[1:])
