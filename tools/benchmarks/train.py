"""One training step beside PyTorch: ControlNet and the UNet's decoder half, AdamW, cached latents and text features."""

import copy
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# Before jax takes most of a GPU's memory, of which PyTorch needs its half.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.reference import CONDITION_CHANNELS, SD15, alternate, torch_network
from benchmarks.train_here import step_here
from benchmarks.train_torch import step_in_torch

from svp_jax.training.step.trainable import flatten
from svp_jax.weights.base import TINY_BASE
from svp_jax.weights.folder import load_model


@dataclass(frozen=True)
class Case:
    """Networks of the UNet's `config` (and the ControlNet's `hint` widths) at `side` latent pixels."""

    name: str
    config: dict
    hint: tuple[int, ...]
    side: int
    batch: int


def cases(full_width: bool, size: int | None, batch: int | None) -> list[Case]:
    """What is measured: small networks, or SD 1.5 where `full_width`; `size` (pixels) and `batch` replace theirs."""
    hint = (16, 32, 96, 256)
    if full_width:
        return [Case("SD 1.5", SD15, hint, (size or 512) // 8, batch or 8)]
    tiny, control = (json.loads((TINY_BASE / name / "config.json").read_text()) for name in ("unet", "controlnet"))
    tiny_hint = tuple(control["conditioning_embedding_out_channels"])
    half = SD15 | {"block_out_channels": (160, 320, 640, 640)}
    found = [Case("tiny", tiny, tiny_hint, size // 8 if size else side, batch or 8) for side in (16, 32)]
    found = found[:1] if size else found
    return [*found, Case("half SD 1.5", half, hint, (size or 256) // 8, batch or 2)]


def benchmark_training(work: Path, repeats: int, full_width: bool, size: int | None, batch: int | None) -> None:
    """Images a second of both, their ratio, how far loss and gradients are apart; on a GPU also memory and rate."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu != torch.cuda.is_available() or jax.local_device_count() > 1:
        sys.exit("jax and PyTorch must see one GPU, the same, or none; set CUDA_VISIBLE_DEVICES or install both for it")
    rate = matrix_rate(on_gpu)
    print(f"matrix product: {rate / 1e12:.2f} TFLOP/s ({'bfloat16' if on_gpu else 'float32'})")
    print("network      latents  batch      here   PyTorch  ratio  share of rate  difference of loss, gradients")
    for case in cases(full_width, size, batch):
        compare(work, case, repeats, rate, on_gpu)


def compare(work: Path, case: Case, repeats: int, rate: float, on_gpu: bool) -> None:
    """Prints one line: the fastest of `repeats` steps of each, in turns, from the same weights on the same batch."""
    import torch

    folder = work / "train" / case.name.replace(" ", "_").lower()
    networks = {"unet": torch_network("unet", case.config)}
    networks["controlnet"] = torch_network("controlnet", case.config, conditioning_embedding_out_channels=case.hint)
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    models = {name: load_model(folder / name, jnp.bfloat16 if on_gpu else jnp.float32) for name in networks}
    batch = make_batch(case)
    here, gradients_here = step_here(models, batch)
    del models
    there, gradients_there, flops = step_in_torch(networks, batch, on_gpu)

    losses = {"here": [], "there": []}
    losses["here"].append(here())
    losses["there"].append(there())
    ours = gradients_here()
    gradients = largest_gap(ours, as_ours(gradients_there(), networks, folder / "gradients"))
    seconds_here, seconds_there, _, _ = alternate(
        lambda: losses["here"].append(here()), lambda: losses["there"].append(there()), repeats
    )
    gap = max(abs(a - b) / b for a, b in zip(losses["here"], losses["there"], strict=True))
    share = flops / seconds_here / rate
    print(
        f"{case.name:<13}{case.side:>7}{case.batch:>7}{case.batch / seconds_here:>8.2f}/s"
        f"{case.batch / seconds_there:>8.2f}/s{seconds_there / seconds_here:>7.2f}{share:>15.0%}"
        f"{gap:>12.1e}, {gradients:.1e}",
        flush=True,
    )
    if on_gpu:
        peak = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"], torch.cuda.max_memory_allocated()
        print(f"peak memory: {peak[0] / 1e9:.1f} GB here, {peak[1] / 1e9:.1f} GB in PyTorch")


def make_batch(case: Case) -> dict[str, np.ndarray]:
    """A batch as training has it (latents, features of the text, condition uint8), and its noise and timesteps."""
    rng = np.random.default_rng(0)
    latents = (case.batch, case.side, case.side, 4)
    condition = (case.batch, 8 * case.side, 8 * case.side, CONDITION_CHANNELS)
    return {
        "latents": rng.standard_normal(latents, np.float32),
        "noise": rng.standard_normal(latents, np.float32),
        "timesteps": rng.integers(0, 1000, case.batch, np.int32),
        "text": rng.standard_normal((case.batch, 77, case.config["cross_attention_dim"]), np.float32),
        "condition": rng.integers(0, 256, condition, np.uint8),
    }


def largest_gap(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """The largest |difference| / |reference| of a tensor, in L2 norms."""
    return max(float(np.linalg.norm(ours[name] - reference[name]) / np.linalg.norm(reference[name])) for name in ours)


def as_ours(tensors: dict[str, dict], networks: dict, folder: Path) -> dict[str, np.ndarray]:
    """diffusers' tensors under the names and in the layout that they have here: they go the way of weights.

    Args:
        tensors: network's name -> parameter's name -> tensor; the others count as they are in `networks`.
    """
    found = {}
    for name, network in networks.items():
        network = copy.deepcopy(network).to("cpu")
        network.load_state_dict(tensors[name], strict=False)
        network.save_pretrained(folder / name)
        found[name] = load_model(folder / name)
    return {name: np.asarray(value) for name, value in flatten(found)[1].items()}


def matrix_rate(on_gpu: bool) -> float:
    """FLOP/s of a square matrix product in the compute dtype, the fastest of ten."""
    side = 8192 if on_gpu else 2048
    matrix = jnp.ones((side, side), jnp.bfloat16 if on_gpu else jnp.float32)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
