"""The tiny base's ControlNet, trained together with its UNet on the tasks of both stages."""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tiny_base_data import Heads, half
from tiny_base_models import SCHEDULER, make_controlnet
from tiny_base_settings import EMPTY_SHARE, SEED, Sheets, batch_rng, first_weights, rows_of, run_settings
from tiny_base_text import tokenize
from transformers import CLIPTokenizer

from svp_jax.capture.images import write_sheet
from svp_jax.diffusion import Schedule, TemporalWeights, TrainingSchedule, loss, sample_sequence
from svp_jax.face.conditions import OUTLINES_WINDOW, degrade_parsing, details_condition
from svp_jax.face.labels import colorize
from svp_jax.models.controlnet import controlled
from svp_jax.models.vae import to_uint8
from svp_jax.training.data.batches import batch_indices
from svp_jax.training.data.copies import make_moves, move, turn_normals
from svp_jax.training.data.latents import cached_latents
from svp_jax.training.fit import fit
from svp_jax.training.stage import noised_latents
from svp_jax.training.step.devices import Devices
from svp_jax.weights.folder import load_model, save_model

BATCH_SIZE = 8
OUTLINES, DETAILS, TEXT = 0, 1, 2
TASK_SHARES = (0.3, 0.5, 0.2)
TIMESTEP_SHIFT = 2.0  # the condition decides where the noise is strong
LARGE_EVERY = 24  # every 24th step is at 256 pixels, where it takes four times as long


class ControlData:
    """Views of the heads with their latents: at 128 pixels each head as it is and moved, at 256 every sixth.

    Called with a step it gives that step's batch: mean, std, condition, controlled, ids (see `control_loss`). Each
    sample is one of three: Stage I (the face model's renders in, parsing map out), Stage II (parsing map, render and
    iris map in, frame out), or the frame from its text alone, so that the UNet stays a text-to-image model.
    """

    def __init__(self, work: Path, vae: nnx.Module, tokenizer: CLIPTokenizer):
        self.heads = Heads(work)
        self.parsing = np.stack([colorize(labels) for labels in self.heads.labels])
        count = len(self.parsing)
        self.moves = make_moves(count, 1, 128, SEED)
        self.numbers = {128: np.arange(len(self.moves)), 256: np.arange(0, count, 6)}
        source = f"{self.heads.sha256}, {hashlib.sha256(self.moves.tobytes()).hexdigest()}"
        # [0] of parsing maps, Stage I's targets, [1] of frames
        targets = self.parsing, self.heads.frames
        self.latents = {
            size: [
                cached_latents(
                    work / f"control_{size}_{kind}", vae, f"{source}, {size} {kind}",
                    lambda n, kind=kind, size=size: np.stack([self.view(targets[kind], i, size) for i in n]), numbers,
                ) for kind in (0, 1)
            ] for size, numbers in self.numbers.items()
        }  # fmt: skip
        self.ids = tokenize(tokenizer, self.heads.captions)
        self.empty = tokenize(tokenizer, np.array([""]))[0]

    def view(self, pictures: np.ndarray, number: int, size: int) -> np.ndarray:
        """A view uint8 [size, size, C] of one of the heads' pictures [N, 256, 256, C]."""
        if size == 256:
            return pictures[number]
        return move(half(pictures[number % len(pictures)][None]), self.moves[number][None])[0]

    def condition(self, task: int, number: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """uint8 [size, size, 9]."""
        geometry = self.view(self.heads.geometry, number, size)
        if size == 128:
            geometry = turn_normals(geometry[None], self.moves[number][None])[0]
        if task == OUTLINES:
            return np.tile(geometry, OUTLINES_WINDOW)
        parsing = degrade_parsing(rng, self.view(self.parsing, number, size))
        return details_condition(parsing, geometry, self.view(self.heads.iris, number, size))

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        rng = batch_rng(SEED + 3, step)
        size = 256 if step % LARGE_EVERY == LARGE_EVERY - 1 else 128
        chosen = batch_indices(SEED + 3, step, len(self.numbers[size]), BATCH_SIZE)
        numbers = self.numbers[size][chosen]
        tasks = rng.choice(3, size=BATCH_SIZE, p=TASK_SHARES)
        captions = self.ids[numbers % len(self.ids), rng.integers(self.ids.shape[1], size=BATCH_SIZE)]
        dropped = rng.random(BATCH_SIZE) < EMPTY_SHARE
        pairs = [self.latents[size][int(t != OUTLINES)].read(n) for t, n in zip(tasks, chosen, strict=True)]
        mean, std = map(np.stack, zip(*pairs, strict=True))
        return {
            "mean": mean,
            "std": std,
            "condition": np.stack([self.condition(t, n, size, rng) for t, n in zip(tasks, numbers, strict=True)]),
            "controlled": (tasks != TEXT).astype(np.float32)[:, None, None, None],
            "ids": np.where(dropped[:, None], self.empty, captions),
        }


def train_control(work: Path, vae: nnx.Module, text: nnx.Module, tokenizer: CLIPTokenizer, steps: int) -> None:
    """Writes WORK/control/unet and WORK/control/controlnet where they are not there yet."""
    out = work / "control"
    if (out / "controlnet" / "config.json").exists():
        return
    data = ControlData(work, vae, tokenizer)
    schedule = TrainingSchedule.from_config(SCHEDULER)
    scale = vae.config.scaling_factor

    def control_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
        """As a stage's, but that text comes as ids, and that `controlled` 0 turns the ControlNet off."""
        noisy, clean, noise, timesteps = noised_latents(schedule, scale, TIMESTEP_SHIFT, batch, keys)
        prediction = controlled(
            models["unet"], models["controlnet"], noisy, timesteps, models["text"](batch["ids"]), batch["condition"],
            batch["controlled"],
        )  # fmt: skip
        return loss(schedule, prediction, clean, noise, timesteps)

    unet = load_model(work / "unet")
    start = {
        "unet": first_weights(work, "control/unet", lambda: unet),
        "controlnet": first_weights(work, "control/controlnet", lambda: make_controlnet(unet, SEED)),
    }
    models = fit(
        "control", {**start, "text": text},
        ((r"(unet|controlnet)/.*", 1.0), (r"text/.*", None)), control_loss, rows_of(data), work / "run_control",
        run_settings(steps, BATCH_SIZE, 1e-3, save_every=200), Devices.of("pmap"),
        Sheets(work, "control", ControlSamples(vae, text, data(0))),
    )  # fmt: skip
    save_model(models["unet"], out / "unet")
    save_model(models["controlnet"], out / "controlnet")


class ControlSamples:
    """Writes a sheet: the first picture of a batch's conditions, its targets, samples from one noise."""

    def __init__(self, vae: nnx.Module, text: nnx.Module, batch: dict[str, np.ndarray]):
        self.vae, self.batch = vae, batch
        self.features = text(jnp.asarray(batch["ids"]))
        self.schedule = Schedule.from_config(SCHEDULER, 12)

    def __call__(self, path: Path, models: dict) -> None:
        graph, parameters = nnx.split((models["unet"], models["controlnet"], self.vae))
        images = sample(graph, parameters, self.schedule, self.features, self.batch)
        rows = [self.batch["condition"][..., :3], *map(np.asarray, images)]
        write_sheet(path, rows)


@jax.jit(static_argnames="graph")
def sample(graph, parameters, schedule: Schedule, features: jax.Array, batch) -> tuple[jax.Array, jax.Array]:
    """What the VAE makes of the batch's latents, and what the networks make of its conditions."""
    unet, controlnet, vae = nnx.merge(graph, parameters)

    def predict(latent, timestep, _):
        return controlled(unet, controlnet, latent, timestep, features, batch["condition"], batch["controlled"])

    noise = jax.random.normal(jax.random.key(SEED), (1, *batch["mean"].shape))
    latents, _ = sample_sequence(predict, schedule, noise, None, TemporalWeights.plain())
    return to_uint8(vae.decode(batch["mean"])), to_uint8(vae.decode(latents[0] / vae.config.scaling_factor))
