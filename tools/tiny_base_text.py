"""How the tiny text encoder learns what captions mean: it must say which attributes drew the head.

Stable Diffusion's encoder has learned its words from pictures (CLIP); here the truth behind the picture is known,
so a linear readout of the features is trained to name it. Only the encoder is kept.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tiny_base_data import Heads
from tiny_base_models import TEXT_WIDTH, make_text_encoder, make_tokenizer
from tiny_base_settings import PARSING_CAPTION, SEED, batch_rng, rows_of, run_settings
from transformers import CLIPTokenizer

from svp_jax.capture.synthetic.looks import (
    BACKGROUND_COLORS,
    BEARDS,
    CLOTHES,
    CLOTHES_COLORS,
    EYES,
    GLASSES,
    HAIR_COLORS,
    HAIR_STYLES,
    LIPS,
    PATTERNS,
    PERSONS,
    SKIN,
)
from svp_jax.training.data.batches import batch_indices
from svp_jax.training.fit import fit
from svp_jax.training.step.devices import Devices
from svp_jax.weights.folder import load_model, save_model

ATTRIBUTES = {
    "person": PERSONS, "skin": SKIN, "hair_color": HAIR_COLORS, "hair_style": HAIR_STYLES, "eyes": EYES,
    "lips": LIPS, "glasses": GLASSES, "beard": BEARDS, "clothes": CLOTHES, "clothes_color": CLOTHES_COLORS,
    "pattern": PATTERNS, "background": BACKGROUND_COLORS,
}  # fmt: skip
BATCH_SIZE = 64
SIZES = [len(words) for words in ATTRIBUTES.values()]


def attribute_targets(looks: list[dict]) -> np.ndarray:
    """Class numbers int32 [N, attributes]."""
    tables = {name: list(words) for name, words in ATTRIBUTES.items()}
    return np.array([[tables[name].index(look[name]) for name in tables] for look in looks], np.int32)


class Readout(nnx.Module):
    """Logits of all attributes, side by side, from the features of one text."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(TEXT_WIDTH, sum(SIZES), rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """[B, D] -> [B, sum of classes]."""
        return self.linear(features)


def text_loss(models: dict, batch: dict, keys: jax.Array) -> jax.Array:
    """Mean cross-entropy of the attributes, read from the last position and from the mean of all."""
    features = models["text"](batch["ids"])
    total = 0.0
    for pooled in (features[:, -1], features.mean(axis=1)):
        for part, target in zip(
            jnp.split(models["readout"](pooled), np.cumsum(SIZES)[:-1], axis=-1), batch["targets"].T, strict=True
        ):
            total += optax.softmax_cross_entropy_with_integer_labels(part, target).mean()
    return total / (2 * len(SIZES))


def train_text(work: Path, steps: int) -> tuple[nnx.Module, CLIPTokenizer]:
    """The text encoder and tokenizer of `work`, made first where there are none."""
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

    def batch_of(step: int) -> dict[str, np.ndarray]:
        chosen = batch_indices(SEED + 1, step, len(ids), BATCH_SIZE)
        which = batch_rng(SEED + 1, step).integers(ids.shape[1], size=BATCH_SIZE)
        return {"ids": ids[chosen, which], "targets": targets[chosen]}

    models = {"text": make_text_encoder(SEED, tokenizer), "readout": Readout(rngs=nnx.Rngs(SEED))}
    text = fit(
        "text", models, ((r"(text|readout)/.*", 1.0),), text_loss, rows_of(batch_of), work / "run_text",
        run_settings(steps, BATCH_SIZE, 1e-3, save_every=100), Devices.of("pmap"), preview=None,
    )["text"]  # fmt: skip
    save_model(text, out)
    return text, tokenizer


def tokenize(tokenizer: CLIPTokenizer, captions: np.ndarray) -> np.ndarray:
    """Token ids int32 [..., 77] of texts [...]."""
    flat = tokenizer([str(text) for text in captions.ravel()], padding="max_length", max_length=77)["input_ids"]
    return np.array(flat, np.int32).reshape(*captions.shape, 77)
