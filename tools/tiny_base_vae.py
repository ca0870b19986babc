"""The tiny base's VAE: trained on 128 x 128 pieces and halves of frames and parsing maps."""

from pathlib import Path

import numpy as np
from flax import nnx
from tiny_base_data import Heads, half
from tiny_base_models import make_vae
from tiny_base_settings import SEED, Sheets, batch_rng, first_weights, rows_of, run_settings

from svp_jax.capture.images import write_sheet
from svp_jax.face.labels import colorize, feature_mask
from svp_jax.models.codec import decode_images, encode_images
from svp_jax.training.data.batches import batch_indices
from svp_jax.training.fit import fit
from svp_jax.training.step.devices import Devices
from svp_jax.training.vae_pass import vae_loss
from svp_jax.weights.folder import load_model, save_model

BATCH_SIZE = 4


def train_vae(work: Path, steps: int) -> nnx.Module:
    """The finished VAE of `work`, trained first where there is none."""
    out = work / "vae"
    if (out / "config.json").exists():
        return load_model(out)
    heads = Heads(work)

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = batch_rng(SEED, step)
        numbers = batch_indices(SEED, step, len(heads.frames), BATCH_SIZE)
        images, labels = zip(*(piece(heads, number, rng) for number in numbers), strict=True)
        return {"image": np.stack(images), "features": feature_mask(np.stack(labels))}

    fixed = heads.frames[:4]

    def round_trips(path: Path, models: dict) -> None:
        again = decode_images(models["vae"], encode_images(models["vae"], lambda n: fixed[n], np.arange(4))[0])
        write_sheet(path, (fixed, again))

    vae = fit(
        "vae", {"vae": first_weights(work, "vae", lambda: make_vae(SEED, 1.0))}, ((r"vae/.*", 1.0),), vae_loss,
        rows_of(batch_of), work / "run_vae", run_settings(steps, BATCH_SIZE, 3e-3, save_every=250),
        Devices.of("pmap"), Sheets(work, "vae", round_trips),
    )["vae"]  # fmt: skip
    # The latents of the shipped base have unit variance, as Stable Diffusion's have by its 0.18215.
    sample = np.arange(0, len(heads.frames), max(1, len(heads.frames) // 256))
    mean, std = encode_images(vae, lambda n: half(heads.frames[n]), sample)
    scaling_factor = round(float(1.0 / np.sqrt(mean.var() + np.square(std).mean())), 5)
    scaled = make_vae(SEED, scaling_factor)
    nnx.update(scaled, nnx.state(vae))
    save_model(scaled, out)
    return scaled


def piece(heads: Heads, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A part or the half of a head's frame or parsing map, uint8 [128, 128, 3], and its labels [128, 128].

    The colours of frames are mixed now and then.
    """
    parsing = rng.random() < 0.2
    labels = heads.labels[number]
    image = colorize(labels) if parsing else heads.frames[number]
    if rng.random() < 0.5:
        image, labels = half(image[None])[0], labels[::2, ::2]
    else:
        top, left = rng.integers(0, 129, size=2)
        image, labels = (x[top : top + 128, left : left + 128] for x in (image, labels))
    if not parsing and rng.random() < 0.3:
        # Other colours than the heads' own, so that photographs survive too.
        gain = rng.uniform(0.6, 1.3, size=3)
        image = np.clip(image[..., rng.permutation(3)] * gain + rng.uniform(-20, 20), 0, 255)
    return image.astype(np.uint8), labels
