"""How the tiny text encoder learns what captions mean: it must say which attributes drew the head.

Stable Diffusion's encoder has learned its words from pictures (CLIP); here the truth behind the picture is known,
so a linear readout of the features is trained to name it. Only the encoder is kept.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tiny_base_models import TEXT_WIDTH

from svp_jax.capture.synthetic_looks import (
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

ATTRIBUTES = {
    "person": PERSONS, "skin": SKIN, "hair_color": HAIR_COLORS, "hair_style": HAIR_STYLES, "eyes": EYES,
    "lips": LIPS, "glasses": GLASSES, "beard": BEARDS, "clothes": CLOTHES, "clothes_color": CLOTHES_COLORS,
    "pattern": PATTERNS, "background": BACKGROUND_COLORS,
}  # fmt: skip
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
