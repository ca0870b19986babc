"""Trains `svp_jax/assets/tiny_base` from nothing: data, VAE, text encoder, UNet, ControlNet, one after the other.

    python tools/train_tiny_base.py --work WORK [--only data|vae|text|unet|control|export]

Everything lies in WORK and is written as it is made; an interrupted run goes on where it stopped. To train a part
further than it was, move WORK/PART to WORK/start/PART and WORK/run_PART away, and run it again. The data are
procedural heads (svp_jax/capture/synthetic_*.py): no photograph and no foreign weight takes part.
Losses and times of the run that made the shipped weights: docs/tiny_base.md.
"""

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tiny_base_data import Heads, make_data
from tiny_base_models import (
    MODEL_INDEX,
    SCHEDULER,
    make_controlnet,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    make_vae,
)
from tiny_base_text import Readout, attribute_targets, text_loss
from transformers import CLIPTokenizer

from svp_jax.capture.images import write_png
from svp_jax.diffusion import Schedule, TemporalWeights, TrainingSchedule, loss, sample_sequence
from svp_jax.face.conditions import OUTLINES_WINDOW, degrade_parsing
from svp_jax.face.labels import colorize
from svp_jax.manifest import write_json
from svp_jax.models.codec import decode_images, encode_images
from svp_jax.models.vae import to_uint8
from svp_jax.training.batches import batch_indices, batch_rng
from svp_jax.training.latents import cached_latents
from svp_jax.training.loop import fit
from svp_jax.training.optimizer import OptimizerSettings
from svp_jax.training.stage import noised_latents
from svp_jax.training.vae_pass import vae_loss
from svp_jax.training.views import move, random_moves
from svp_jax.weights.base import TINY_BASE
from svp_jax.weights.folder import load_model, save_model

SEED = 7
HEADS = 4000
PARSING_CAPTION = "a face parsing map"
PARSING_EVERY = 10  # every tenth head's parsing map is a training image of its own
EMPTY_SHARE = 0.1  # captions dropped, for guidance
TASK_SHARES = (0.3, 0.5, 0.2)  # Stage I, Stage II, text alone
TIMESTEP_SHIFT = 2.0  # the condition decides where the noise is strong
OPTIMIZER = {"warmup_steps": 200, "decay": "cosine", "clip_norm": 1.0, "weight_decay": 0.01}


def half(images: np.ndarray) -> np.ndarray:
    """Images of half the size, by area."""
    return np.stack([cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in images])


def first_weights(work: Path, name: str, make: Callable[[], nnx.Module]) -> nnx.Module:
    """What training starts from: WORK/start/NAME, an earlier run's result, else a new network."""
    start = work / "start" / name
    return load_model(start) if start.exists() else make()


def train_vae(work: Path, steps: int) -> nnx.Module:
    """The VAE, on 128x128 pieces and halves of frames and parsing maps; colours mixed now and then."""
    out = work / "vae"
    if (out / "config.json").exists():
        return load_model(out)
    heads = Heads(work)
    batch_size = 4

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = batch_rng(SEED, step)
        images = []
        for number in batch_indices(SEED, step, len(heads.frames), batch_size):
            parsing = rng.random() < 0.2
            image = colorize(heads.labels[number]) if parsing else heads.frames[number]
            if rng.random() < 0.5:
                image = half(image[None])[0]
            else:
                top, left = rng.integers(0, 129, size=2)
                image = image[top : top + 128, left : left + 128]
            if not parsing and rng.random() < 0.3:
                # Other colours than the heads' own, so that photographs survive too.
                gain = rng.uniform(0.6, 1.3, size=3)
                image = np.clip(image[..., rng.permutation(3)] * gain + rng.uniform(-20, 20), 0, 255)
            images.append(image.astype(np.uint8))
        return {"image": np.stack(images)}

    fixed = heads.frames[:4]

    def preview(step: int, models: dict) -> None:
        rows = [fixed, decode_images(models["vae"], encode_images(models["vae"], lambda n: fixed[n], np.arange(4))[0])]
        write_png(work / f"vae_{step:06d}.png", np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))

    vae = fit(
        "vae", {"vae": first_weights(work, "vae", lambda: make_vae(SEED, 1.0))}, ((r"vae/.*", 1.0),), vae_loss,
        batch_of, work / "run_vae", steps=steps, batch_size=batch_size, seed=SEED,
        settings=OptimizerSettings(2e-3, **OPTIMIZER), save_every=250, preview_every=500, preview=preview,
    )["vae"]  # fmt: skip
    # The latents of the shipped base have unit variance, as Stable Diffusion's have by its 0.18215.
    sample = np.arange(0, len(heads.frames), max(1, len(heads.frames) // 256))
    mean, std = encode_images(vae, lambda n: half(heads.frames[n]), sample)
    scaling_factor = round(float(1.0 / np.sqrt(mean.var() + np.square(std).mean())), 5)
    scaled = make_vae(SEED, scaling_factor)
    nnx.update(scaled, nnx.state(vae))
    save_model(scaled, out)
    return scaled


def train_text(work: Path, steps: int) -> tuple[nnx.Module, object]:
    """Tokenizer and text encoder: captions in, the attributes that drew the head out."""
    # Made once: the learner breaks ties as it likes, and the text encoder knows the words by their numbers.
    if (work / "tokenizer" / "tokenizer_config.json").exists():
        tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
    else:
        tokenizer = make_tokenizer(work / "tokenizer", PARSING_CAPTION.split())
    out = work / "text_encoder"
    if (out / "config.json").exists():
        return load_model(out), tokenizer
    heads = Heads(work)
    ids = tokenize(tokenizer, heads.captions)
    targets = attribute_targets(heads.looks)
    batch_size = 64

    def batch_of(step: int) -> dict[str, np.ndarray]:
        chosen = batch_indices(SEED + 1, step, len(ids), batch_size)
        which = batch_rng(SEED + 1, step).integers(ids.shape[1], size=batch_size)
        return {"ids": ids[chosen, which], "targets": targets[chosen]}

    models = {"text": make_text_encoder(SEED, tokenizer), "readout": Readout(rngs=nnx.Rngs(SEED))}
    text = fit(
        "text", models, ((r"(text|readout)/.*", 1.0),), text_loss, batch_of, work / "run_text",
        steps=steps, batch_size=batch_size, seed=SEED, settings=OptimizerSettings(1e-3, **OPTIMIZER),
        save_every=100, preview_every=10**9, preview=lambda step, models: None,
    )["text"]  # fmt: skip
    save_model(text, out)
    return text, tokenizer


def tokenize(tokenizer, captions: np.ndarray) -> np.ndarray:
    """Token ids int32 [..., 77] of texts [...]."""
    flat = tokenizer([str(text) for text in captions.ravel()], padding="max_length", max_length=77)["input_ids"]
    return np.array(flat, np.int32).reshape(*captions.shape, 77)


def train_unet(work: Path, vae: nnx.Module, text: nnx.Module, tokenizer, steps: int) -> nnx.Module:
    """The UNet, at 128 and 256 pixels in turns, captions by the frozen text encoder."""
    out = work / "unet"
    if (out / "config.json").exists():
        return load_model(out)
    heads = Heads(work)
    count = len(heads.frames)
    maps = np.arange(0, count, PARSING_EVERY)
    indices = np.arange(count + len(maps))

    def read(numbers: np.ndarray) -> np.ndarray:
        return np.stack([heads.frames[n] if n < count else colorize(heads.labels[maps[n - count]]) for n in numbers])

    # A third of them at full size: encoding 256 pixels takes four times as long, and a training step does too.
    numbers = {128: indices, 256: indices[::3]}
    latents = {
        256: cached_latents(work / "latents_256.npz", vae, "heads 256", read, numbers[256]),
        128: cached_latents(work / "latents_128.npz", vae, "heads 128", lambda n: half(read(n)), numbers[128]),
    }
    ids = tokenize(tokenizer, heads.captions)
    parsing_ids = np.broadcast_to(tokenize(tokenizer, np.array([PARSING_CAPTION])), (len(maps), ids.shape[1], 77))
    ids = np.concatenate([ids, parsing_ids])
    empty = tokenize(tokenizer, np.array([""]))[0]
    batch_size = 16

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = batch_rng(SEED + 2, step)
        size = 256 if step % 4 == 3 else 128
        mean, std = latents[size]
        chosen = batch_indices(SEED + 2, step, len(mean), batch_size)
        captions = ids[numbers[size][chosen], rng.integers(ids.shape[1], size=batch_size)]
        dropped = rng.random(batch_size) < EMPTY_SHARE
        return {"mean": mean[chosen], "std": std[chosen], "ids": np.where(dropped[:, None], empty, captions)}

    schedule = TrainingSchedule.from_config(SCHEDULER)
    scale = vae.config.scaling_factor

    def unet_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
        noisy, clean, noise, timesteps = noised_latents(schedule, scale, 1.0, batch, keys)
        prediction = models["unet"](noisy, timesteps, models["text"](batch["ids"]))
        return loss(schedule, prediction, clean, noise, timesteps)

    texts = ["a portrait of Velmora, blue background", "a portrait of Brindovar, green background",
             "a photo of a woman with long black hair, dark skin and a yellow sweater, white background",
             "a portrait of a man with short blond hair, pale skin and a red hoodie, grey background",
             PARSING_CAPTION, ""]  # fmt: skip
    samples = Samples(work, vae, text, tokenize(tokenizer, np.array(texts)))
    unet = fit(
        "unet", {"unet": first_weights(work, "unet", lambda: make_unet(SEED)), "text": text},
        ((r"unet/.*", 1.0), (r"text/.*", None)), unet_loss, batch_of, work / "run_unet",
        steps=steps, batch_size=batch_size, seed=SEED,
        settings=OptimizerSettings(6e-4, **OPTIMIZER), save_every=200, preview_every=500, preview=samples,
    )["unet"]  # fmt: skip
    save_model(unet, out)
    return unet


def train_control(work: Path, vae: nnx.Module, text: nnx.Module, tokenizer, steps: int) -> None:
    """The UNet and one ControlNet for both stages, together; 128 pixels, and 256 in every 24th step.

    Each sample is one of three: Stage I (the face model's renders in, parsing map out), Stage II (parsing map, render
    and iris map in, frame out), or the frame from its text alone, so that the UNet stays a text-to-image model.
    """
    out = work / "control"
    if (out / "controlnet" / "config.json").exists():
        return
    heads = Heads(work)
    parsing = np.stack([colorize(labels) for labels in heads.labels])
    images = (heads.frames, parsing)
    count = len(parsing)
    # Views of 128 pixels: every head as it is, then moved within the picture. Every sixth head at 256 pixels, where
    # encoding and training cost four times as much.
    still = np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1))
    moves = np.concatenate([still, random_moves(count, 128, SEED)])

    def view(pictures: np.ndarray, number: int, size: int) -> np.ndarray:
        """A view uint8 [size, size, C] of one of the heads' pictures [N, 256, 256, C]."""
        if size == 256:
            return pictures[number]
        return move(half(pictures[number % count][None]), moves[number][None])[0]

    numbers = {128: np.arange(2 * count), 256: np.arange(0, count, 6)}
    latents = {
        (size, kind): cached_latents(
            work / f"control_{size}_{kind}.npz", vae, f"heads {size} {kind}, moved",
            lambda n, kind=kind, size=size: np.stack([view(images[kind], i, size) for i in n]), numbers[size],
        )
        for size in (128, 256) for kind in (0, 1)
    }  # fmt: skip
    ids = tokenize(tokenizer, heads.captions)
    empty = tokenize(tokenizer, np.array([""]))[0]
    batch_size = 8

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = batch_rng(SEED + 3, step)
        size = 256 if step % 24 == 23 else 128
        mean, std = ([latents[size, kind][part] for kind in (0, 1)] for part in (0, 1))
        chosen = batch_indices(SEED + 3, step, len(mean[0]), batch_size)
        task = rng.choice(3, size=batch_size, p=TASK_SHARES)  # Stage I, Stage II, text alone
        maps = (task == 0).astype(int)
        conditions = []
        for number, outlines in zip(numbers[size][chosen], maps, strict=True):
            geometry = view(heads.geometry, number, size)
            if outlines:
                conditions.append(np.concatenate([geometry] * OUTLINES_WINDOW, axis=-1))
            else:
                map_ = degrade_parsing(rng, view(parsing, number, size))
                conditions.append(np.concatenate([map_, geometry, view(heads.iris, number, size)], axis=-1))
        captions = ids[numbers[size][chosen] % count, rng.integers(ids.shape[1], size=batch_size)]
        dropped = rng.random(batch_size) < EMPTY_SHARE
        return {
            "mean": np.stack([mean[kind][n] for kind, n in zip(maps, chosen, strict=True)]),
            "std": np.stack([std[kind][n] for kind, n in zip(maps, chosen, strict=True)]),
            "condition": np.stack(conditions),
            "controlled": (task < 2).astype(np.float32)[:, None, None, None],
            "ids": np.where(dropped[:, None], empty, captions),
        }

    schedule = TrainingSchedule.from_config(SCHEDULER)
    scale = vae.config.scaling_factor

    def control_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
        noisy, clean, noise, timesteps = noised_latents(schedule, scale, TIMESTEP_SHIFT, batch, keys)
        features = models["text"](batch["ids"])
        condition = batch["condition"].astype(jnp.float32) / 255.0
        down, mid = models["controlnet"](noisy, timesteps, features, condition, scale=batch["controlled"])
        prediction = models["unet"](noisy, timesteps, features, down, mid)
        return loss(schedule, prediction, clean, noise, timesteps)

    samples = ControlSamples(work, vae, text, batch_of(0))
    unet = load_model(work / "unet")
    controlnet = make_controlnet(unet, SEED)
    start = {
        "unet": first_weights(work, "control/unet", lambda: unet),
        "controlnet": first_weights(work, "control/controlnet", lambda: controlnet),
    }
    models = fit(
        "control", {**start, "text": text},
        ((r"(unet|controlnet)/.*", 1.0), (r"text/.*", None)), control_loss, batch_of, work / "run_control",
        steps=steps, batch_size=batch_size, seed=SEED, settings=OptimizerSettings(1e-3, **OPTIMIZER),
        save_every=200, preview_every=500, preview=samples,
    )  # fmt: skip
    save_model(models["unet"], out / "unet")
    save_model(models["controlnet"], out / "controlnet")


class ControlSamples:
    """Writes a sheet: the targets of a batch, the first picture of their conditions, samples from one noise."""

    def __init__(self, work: Path, vae: nnx.Module, text: nnx.Module, batch: dict[str, np.ndarray]):
        self.work, self.vae, self.batch = work, vae, batch
        self.features = text(jnp.asarray(batch["ids"]))
        self.schedule = Schedule.from_config(SCHEDULER, 12)

    def __call__(self, step: int, models: dict) -> None:
        graph, parameters = nnx.split((models["unet"], models["controlnet"], self.vae))
        images = control_sample(graph, parameters, self.schedule, self.features, self.batch)
        rows = [self.batch["condition"][..., :3], *map(np.asarray, images)]
        write_png(
            self.work / f"control_{step:06d}.png", np.concatenate([np.concatenate(list(r), axis=1) for r in rows])
        )


@jax.jit(static_argnames="graph")
def control_sample(graph, parameters, schedule: Schedule, features: jax.Array, batch) -> tuple[jax.Array, jax.Array]:
    """What the VAE makes of the batch's latents, and what the networks make of its conditions."""
    unet, controlnet, vae = nnx.merge(graph, parameters)
    condition = batch["condition"].astype(jnp.float32) / 255.0

    def predict(latent, timestep, _):
        timesteps = jnp.full(len(latent), timestep)
        down, mid = controlnet(latent, timesteps, features, condition, scale=batch["controlled"])
        return unet(latent, timesteps, features, down, mid)

    noise = jax.random.normal(jax.random.key(SEED), (1, *batch["mean"].shape))
    latents, _ = sample_sequence(predict, schedule, noise, None, TemporalWeights.plain())
    return to_uint8(vae.decode(batch["mean"])), to_uint8(vae.decode(latents[0] / vae.config.scaling_factor))


class Samples:
    """Writes a sheet of text-to-image samples at 128 and 256 pixels, guidance 3, always from the same noise."""

    def __init__(self, work: Path, vae: nnx.Module, text: nnx.Module, ids: np.ndarray):
        self.work, self.vae = work, vae
        empty = np.broadcast_to(ids[-1], ids.shape)
        self.features = text(jnp.asarray(np.concatenate([empty, ids])))
        self.schedule = Schedule.from_config(SCHEDULER, 12)

    def __call__(self, step: int, models: dict) -> None:
        graph, parameters = nnx.split((models["unet"], self.vae))
        rows = [np.asarray(sample(graph, parameters, self.schedule, self.features, side)) for side in (16, 32)]
        rows[0] = np.stack([cv2.resize(image, (256, 256), interpolation=cv2.INTER_NEAREST) for image in rows[0]])
        write_png(self.work / f"unet_{step:06d}.png", np.concatenate([np.concatenate(list(r), axis=1) for r in rows]))


@jax.jit(static_argnames=("graph", "side"))
def sample(graph, parameters, schedule: Schedule, features: jax.Array, side: int) -> jax.Array:
    """Images uint8 [n, 8 side, 8 side, 3] for features [2n, 77, D], unconditional ones first; guidance 3."""
    unet, vae = nnx.merge(graph, parameters)

    def predict(latent, timestep, _):
        both = unet(jnp.concatenate([latent, latent]), jnp.full(2 * len(latent), timestep), features)
        unconditional, conditional = jnp.split(both, 2)
        return unconditional + 3.0 * (conditional - unconditional)

    noise = jax.random.normal(jax.random.key(SEED), (1, features.shape[0] // 2, side, side, 4))
    latents, _ = sample_sequence(predict, schedule, noise, None, TemporalWeights.plain())
    return to_uint8(vae.decode(latents[0] / vae.config.scaling_factor))


def export(work: Path, out: Path) -> None:
    """Writes the base in the diffusers layout, weights in float16."""
    beside = out.with_name(out.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    for source in ("vae", "text_encoder", "control/unet", "control/controlnet"):
        save_model(load_model(work / source), beside / Path(source).name, dtype=jnp.float16)
    shutil.copytree(work / "tokenizer", beside / "tokenizer")
    (beside / "scheduler").mkdir()
    write_json(beside / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(beside / "model_index.json", MODEL_INDEX)
    shutil.rmtree(out, ignore_errors=True)
    beside.replace(out)
    print(f"wrote {out}: {sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=("data", "vae", "text", "unet", "control", "export"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--vae-steps", type=int, default=4000)
    parser.add_argument("--text-steps", type=int, default=700)
    parser.add_argument("--unet-steps", type=int, default=8000)
    parser.add_argument("--control-steps", type=int, default=7000)
    parser.add_argument("--out", type=Path, default=TINY_BASE)
    options = parser.parse_args()

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    if wanted("data"):
        make_data(options.work, HEADS, SEED, options.processes)
    if wanted("vae"):
        train_vae(options.work, options.vae_steps)
    if wanted("text"):
        train_text(options.work, options.text_steps)
    if wanted("unet"):
        vae = load_model(options.work / "vae")
        train_unet(options.work, vae, *train_text(options.work, options.text_steps), options.unet_steps)
    if wanted("control"):
        vae = load_model(options.work / "vae")
        train_control(options.work, vae, *train_text(options.work, options.text_steps), options.control_steps)
    if wanted("export"):
        export(options.work, options.out)
