"""The tiny base's UNet alone: text to image, at 128 and 256 pixels."""

from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tiny_base_data import Heads, half
from tiny_base_models import SCHEDULER, make_unet
from tiny_base_settings import (
    EMPTY_SHARE,
    PARSING_CAPTION,
    SEED,
    Sheets,
    batch_rng,
    first_weights,
    rows_of,
    run_settings,
)
from tiny_base_text import tokenize
from transformers import CLIPTokenizer

from svp_jax.capture.images import write_sheet
from svp_jax.diffusion import Schedule, TemporalWeights, TrainingSchedule, guide, loss, sample_sequence
from svp_jax.face.labels import colorize
from svp_jax.models.vae import to_uint8
from svp_jax.training.data.batches import batch_indices
from svp_jax.training.data.latents import cached_latents
from svp_jax.training.fit import fit
from svp_jax.training.stage import noised_latents
from svp_jax.training.step.devices import Devices
from svp_jax.weights.folder import load_model, save_model

BATCH_SIZE = 16
PARSING_EVERY = 10  # every tenth head's parsing map is a training image of its own
GUIDANCE = 3.0
TEXTS = (
    "a portrait of Velmora, blue background",
    "a portrait of Brindovar, green background",
    "a photo of a woman with long black hair, dark skin and a yellow sweater, white background",
    "a portrait of a man with short blond hair, pale skin and a red hoodie, grey background",
    PARSING_CAPTION,
    "",
)


def train_unet(work: Path, vae: nnx.Module, text: nnx.Module, tokenizer: CLIPTokenizer, steps: int) -> nnx.Module:
    """The UNet of `work`, trained first where there is none: three steps at 128 pixels to one at 256."""
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
    source = f"{heads.sha256}, heads"
    latents = {
        256: cached_latents(work / "latents_256", vae, f"{source} 256", read, numbers[256]),
        128: cached_latents(work / "latents_128", vae, f"{source} 128", lambda n: half(read(n)), numbers[128]),
    }
    ids = tokenize(tokenizer, heads.captions)
    parsing_ids = np.broadcast_to(tokenize(tokenizer, np.array([PARSING_CAPTION])), (len(maps), ids.shape[1], 77))
    ids = np.concatenate([ids, parsing_ids])
    empty = tokenize(tokenizer, np.array([""]))[0]

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = batch_rng(SEED + 2, step)
        size = 256 if step % 4 == 3 else 128
        chosen = batch_indices(SEED + 2, step, len(latents[size]), BATCH_SIZE)
        mean, std = latents[size].read(chosen)
        captions = ids[numbers[size][chosen], rng.integers(ids.shape[1], size=BATCH_SIZE)]
        dropped = rng.random(BATCH_SIZE) < EMPTY_SHARE
        return {"mean": mean, "std": std, "ids": np.where(dropped[:, None], empty, captions)}

    schedule = TrainingSchedule.from_config(SCHEDULER)
    scale = vae.config.scaling_factor

    def unet_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
        noisy, clean, noise, timesteps = noised_latents(schedule, scale, 1.0, batch, keys)
        prediction = models["unet"](noisy, timesteps, models["text"](batch["ids"]))
        return loss(schedule, prediction, clean, noise, timesteps)

    samples = TextSamples(vae, text, tokenize(tokenizer, np.array(TEXTS)))
    unet = fit(
        "unet", {"unet": first_weights(work, "unet", lambda: make_unet(SEED)), "text": text},
        ((r"unet/.*", 1.0), (r"text/.*", None)), unet_loss, rows_of(batch_of), work / "run_unet",
        run_settings(steps, BATCH_SIZE, 6e-4, save_every=200), Devices.of("pmap"), Sheets(work, "unet", samples),
    )["unet"]  # fmt: skip
    save_model(unet, out)
    return unet


class TextSamples:
    """Writes a sheet of text-to-image samples at 128 and 256 pixels, always from the same noise.

    Args:
        ids: token ids [n, 77], the last of them of the empty text.
    """

    def __init__(self, vae: nnx.Module, text: nnx.Module, ids: np.ndarray):
        self.vae = vae
        empty = np.broadcast_to(ids[-1], ids.shape)
        self.features = text(jnp.asarray(np.concatenate([empty, ids])))
        self.schedule = Schedule.from_config(SCHEDULER, 12)

    def __call__(self, path: Path, models: dict) -> None:
        graph, parameters = nnx.split((models["unet"], self.vae))
        rows = [np.asarray(sample(graph, parameters, self.schedule, self.features, side)) for side in (16, 32)]
        rows[0] = np.stack([cv2.resize(image, (256, 256), interpolation=cv2.INTER_NEAREST) for image in rows[0]])
        write_sheet(path, rows)


@jax.jit(static_argnames=("graph", "side"))
def sample(graph, parameters, schedule: Schedule, features: jax.Array, side: int) -> jax.Array:
    """Images uint8 [n, 8 side, 8 side, 3] for features [2n, 77, D], unconditional ones first."""
    unet, vae = nnx.merge(graph, parameters)

    def predict(latent, timestep, _):
        return unet(latent, jnp.full(len(latent), timestep), features)

    noise = jax.random.normal(jax.random.key(SEED), (1, features.shape[0] // 2, side, side, 4))
    latents, _ = sample_sequence(guide(predict, GUIDANCE), schedule, noise, None, TemporalWeights.plain())
    return to_uint8(vae.decode(latents[0] / vae.config.scaling_factor))
