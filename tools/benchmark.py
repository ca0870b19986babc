"""Measures this program beside PyTorch, its conversion of full-size weights, and its rasterizer.

    python tools/benchmark.py model               UNet and ControlNet of SD 1.5's full width, here and in diffusers
    python tools/benchmark.py convert             a single-file SD 1.5 to a folder; loading a float16 folder
    python tools/benchmark.py raster              pictures of normals a second; --ict-model adds a whole head

Prints times, ratios and memory. `model` and `convert` need the [dev] extra, 15 GB of disk below --work and 16 GB of
memory; their weights are random.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.face import mediapipe_mesh
from svp_jax.face.perspective import render_normals_perspective
from svp_jax.face.rasterizer import render_normals
from svp_jax.weights.folder import load_model

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
CLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CONDITION_CHANNELS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "convert", "raster"))
    parser.add_argument("--work", type=Path, default=Path("benchmark"), help="folder for the weights; kept")
    parser.add_argument("--latents", type=int, nargs="+", default=[32, 64], help="sides of the latents")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--ict-model", type=Path, help=".npz with the ICT face's neutral [V, 3] in cm and faces [T, 3]")
    options = parser.parse_args()
    if options.what == "raster":
        benchmark_rasterizer(options.ict_model, options.repeats)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "model":
        benchmark_models(options.work, options.latents, options.repeats)
    else:
        benchmark_conversion(options.work)


def benchmark_models(work: Path, sides: list[int], repeats: int) -> None:
    """Time of one call at batch 1 in float32, ours over diffusers', with the same weights and inputs."""
    import torch

    torch.set_grad_enabled(False)
    print("network     latents     here  PyTorch  ratio  GFLOP/s  |difference|/std")
    for name in ("unet", "controlnet"):
        folder = work / name
        theirs = _torch_model(name).eval()
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
    here, there, ours, reference = _alternate(
        lambda: jax.block_until_ready(compiled(parameters, *inputs)),
        lambda: theirs(*as_torch, return_dict=False),
        repeats,
    )
    speed = compiled.cost_analysis()["flops"] / here / 1e9
    gap = _difference(ours, reference)
    print(f"{name:<12}{side:>7}{here:>8.2f}s{there:>8.2f}s{here / there:>7.2f}{speed:>9.0f}{gap:>18.1e}", flush=True)


def _torch_model(name: str):
    import diffusers
    import torch

    torch.manual_seed(0)
    if name == "unet":
        return diffusers.UNet2DConditionModel(**SD15)
    config = {key: value for key, value in SD15.items() if key != "sample_size"}
    model = diffusers.ControlNetModel(**config, conditioning_channels=CONDITION_CHANNELS)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.copy_(0.02 * torch.randn_like(parameter))
    return model


def _inputs(name: str, side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(side)
    inputs = [rng.standard_normal((1, side, side, 4)), np.array([500]), rng.standard_normal((1, 77, 768))]
    if name == "controlnet":
        inputs.append(rng.uniform(size=(1, 8 * side, 8 * side, CONDITION_CHANNELS)))
    return [np.asarray(x, np.float32 if x.dtype.kind == "f" else np.int32) for x in inputs]


def _alternate(ours: Callable, theirs: Callable, repeats: int) -> tuple[float, float, object, object]:
    """The fastest of `repeats` runs of each after one to warm up, in turns; and their last results."""
    times = {ours: [], theirs: []}
    results = {}
    for turn in range(repeats + 1):
        for call, taken in times.items():
            start = time.perf_counter()
            results[call] = call()
            if turn:
                taken.append(time.perf_counter() - start)
    return min(times[ours]), min(times[theirs]), results[ours], results[theirs]


def _difference(ours: object, theirs: object) -> float:
    """Largest |difference| over the reference's standard deviation, over all outputs."""
    theirs = [x for part in theirs for x in (part if isinstance(part, list | tuple) else [part])]
    gaps = []
    for mine, other in zip(jax.tree.leaves(ours), theirs, strict=True):
        other = other.numpy().transpose(0, 2, 3, 1)
        gaps.append(np.abs(np.asarray(mine) - other).max() / other.std())
    return float(max(gaps))


def benchmark_conversion(work: Path) -> None:
    """Time and peak memory of a process that converts a float32 SD 1.5 file, and of one that loads a float16 folder."""
    file, folder, halves = work / "sd15.safetensors", work / "converted", work / "halves"
    vocabulary = Path(__file__).parents[1] / "svp_jax" / "assets" / "tiny_base" / "tokenizer"
    if not file.exists():
        _write_checkpoint(work, file, vocabulary)
    for target in (folder, halves):
        if target.exists():
            sys.exit(f"{target} is left over from an earlier run; remove it")
    print(f"{file.name}: {file.stat().st_size / 1e9:.2f} GB")
    convert = "from svp_jax.cli import main; main()"
    _measure("convert to a folder", convert, "convert", file, folder, "--tokenizer", vocabulary)
    _measure("convert to a float16 folder", convert, "convert", folder, halves, "--dtype", "float16")
    use = "import sys; from svp_jax.weights.base import load_base; base = load_base(sys.argv[1])"
    _measure("load the float16 folder", use, halves)


def _write_checkpoint(work: Path, file: Path, vocabulary: Path) -> None:
    """A single file of SD 1.5's size with random weights, by way of the folder that diffusers saves."""
    import diffusers
    import transformers

    base = work / "base"
    diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**VAE),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP)),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(vocabulary),
        unet=_torch_model("unet"),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(base)
    subprocess.run([sys.executable, "-m", "svp_jax", "convert", base, file], check=True)


def _measure(what: str, code: str, *arguments: object) -> None:
    """Runs Python code in a process of its own; prints its seconds and the most memory it held (Linux)."""
    # The kernel's count for a finished child begins with what its parent held; this one is the child's alone.
    code += "; import pathlib; print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    start = time.perf_counter()
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    print(f"{what:<32}{seconds:>7.1f} s{int(done.stdout.split()[-1]) / 1e6:>7.2f} GB", flush=True)


def benchmark_rasterizer(ict_model: Path | None, repeats: int) -> None:
    """Pictures of normals a second, 512 x 512: one after the other, and two threads side by side."""
    print("mesh                                triangles  one thread  two threads")
    face, triangles = _face()
    _rate("MediaPipe's face", len(triangles), repeats, lambda: render_normals(face, triangles, 512, 512))
    # The same picture by a camera: 512 pixels of focal length, 512 units away.
    camera = (512.0, np.array([256.0, 256.0]), 512, 512)
    points = (face - [256, 256, -512]) * [1, -1, -1]
    _rate(
        "MediaPipe's face, perspective",
        len(triangles),
        repeats,
        lambda: render_normals_perspective(points, triangles, *camera),
    )
    if ict_model is None:
        return
    with np.load(ict_model) as model:
        head, triangles = model["neutral"].astype(np.float64), model["faces"]
    # In the middle of the picture, 60 cm away: 34 cm from crown to chest are 490 pixels.
    head = head - (head.min(0) + head.max(0)) / 2 - [0, 0, 60]
    camera = (850.0, np.array([256.0, 256.0]), 512, 512)
    for cull, name in ((True, "ICT head, far sides left out"), (False, "ICT head, both sides")):
        _rate(
            name,
            len(triangles),
            repeats,
            lambda cull=cull: render_normals_perspective(head, triangles, *camera, cull=cull),
        )


def _face() -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe's mesh as large as a tracked face: (vertices [480, 3] in pixels, triangles).

    Made without a picture: the outline is an ellipse, and every other vertex lies amid its neighbours.
    """
    triangles = mediapipe_mesh.triangles()
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    links = np.zeros((480, 480))
    links[edges[:, 0], edges[:, 1]] = links[edges[:, 1], edges[:, 0]] = 1
    balance = np.diag(np.maximum(links.sum(1), 1)) - links
    outline = np.array(mediapipe_mesh.FACE_OVAL)
    balance[outline] = np.eye(480)[outline]
    places = np.zeros((480, 2))
    angle = np.linspace(0, 2 * np.pi, len(outline), endpoint=False)
    places[outline] = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    places = np.linalg.solve(balance, places)
    depth = 80 * (places**2).sum(1, keepdims=True)
    return np.concatenate([256 + places * [115, 140], depth], axis=1), triangles


def _rate(name: str, triangles: int, repeats: int, draw: Callable) -> None:
    rates = []
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:
            best = float("inf")
            for _ in range(repeats):
                start = time.perf_counter()
                list(pool.map(lambda _: draw(), range(60)))
                best = min(best, time.perf_counter() - start)
        rates.append(60 / best)
    print(f"{name:<36}{triangles:>9}{rates[0]:>10.0f}/s{rates[1]:>11.0f}/s", flush=True)


if __name__ == "__main__":
    jnp.zeros(())  # starts the backend before anything is timed
    main()
