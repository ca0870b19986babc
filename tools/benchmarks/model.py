"""UNet and ControlNet of SD 1.5's full width, here and in diffusers."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from benchmarks.reference import CONDITION_CHANNELS, SD15, alternate, torch_network
from flax import nnx

from svp_jax.weights.folder import load_model


def benchmark_models(work: Path, sides: list[int], repeats: int) -> None:
    """Time of one call at batch 1 in float32, ours over diffusers', with the same weights and inputs."""
    import torch

    torch.set_grad_enabled(False)
    print("network     latents     here  PyTorch  ratio  GFLOP/s  |difference|/std")
    for name in ("unet", "controlnet"):
        folder = work / name
        theirs = torch_network(name, SD15).eval()
        theirs.save_pretrained(folder)
        graph, parameters = nnx.split(load_model(folder))
        for side in sides:
            _compare(name, side, graph, parameters, theirs, repeats)


def _compare(name: str, side: int, graph: nnx.GraphDef, parameters: nnx.State, theirs: Callable, repeats: int) -> None:
    import torch

    inputs = _inputs(name, side)
    call = jax.jit(lambda parameters, *args: nnx.merge(graph, parameters)(*args))
    compiled = call.lower(parameters, *inputs).compile()
    as_torch = [torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)) for x in inputs]
    here, there, ours, reference = alternate(
        lambda: jax.block_until_ready(compiled(parameters, *inputs)),
        lambda: theirs(*as_torch, return_dict=False),
        repeats,
    )
    speed = compiled.cost_analysis()["flops"] / here / 1e9
    gap = _difference(ours, reference)
    print(f"{name:<12}{side:>7}{here:>8.2f}s{there:>8.2f}s{here / there:>7.2f}{speed:>9.0f}{gap:>18.1e}", flush=True)


def _inputs(name: str, side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(side)
    inputs = [rng.standard_normal((1, side, side, 4)), np.array([500]), rng.standard_normal((1, 77, 768))]
    if name == "controlnet":
        inputs.append(rng.uniform(size=(1, 8 * side, 8 * side, CONDITION_CHANNELS)))
    return [np.asarray(x, np.float32 if x.dtype.kind == "f" else np.int32) for x in inputs]


def _difference(ours: object, theirs: object) -> float:
    """Largest |difference| over the reference's standard deviation, over all outputs."""
    theirs = [x for part in theirs for x in (part if isinstance(part, list | tuple) else [part])]
    gaps = []
    for mine, other in zip(jax.tree.leaves(ours), theirs, strict=True):
        other = other.numpy().transpose(0, 2, 3, 1)
        gaps.append(np.abs(np.asarray(mine) - other).max() / other.std())
    return float(max(gaps))
