"""The text encoders of Stable Diffusion 1.x (CLIP-L) and 2.x (OpenCLIP-H): CLIPTextModel in transformers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models import config as reader
from svp_jax.models.attention import attend
from svp_jax.models.layers import layer_norm, linear, uniform


def quick_gelu(x: jax.Array) -> jax.Array:
    """OpenAI CLIP's approximation of gelu."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": lambda x: jax.nn.gelu(x, approximate=False)}


@dataclasses.dataclass(frozen=True)
class TextEncoderConfig:
    """Everything that fixes a text encoder, and the token ids that travel with it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    hidden_act: str
    layer_norm_eps: float
    pad_token_id: int | None
    bos_token_id: int | None
    eos_token_id: int | None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> "TextEncoderConfig":
        """From a transformers CLIPTextModel's config.json; UserError names a key that cannot be honoured."""
        name = "CLIPTextModel"
        defaults = {
            "vocab_size": 49408,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "pad_token_id": 1,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        }
        # Every other key of a transformers config is bookkeeping of the library or of its training.
        only = {"model_type": ("clip_text_model",)}
        values = reader.read_keys(name, json, defaults, only, None)
        sizes = [key for key in defaults if key not in ("hidden_act", "layer_norm_eps") and not key.endswith("_id")]
        for key in sizes:
            reader.positive_int(name, key, values[key])
        if values["hidden_size"] % values["num_attention_heads"]:
            raise UserError(
                f"{name} config: hidden_size {values['hidden_size']} must be a multiple of "
                f"num_attention_heads ({values['num_attention_heads']})"
            )
        if values["hidden_act"] not in ACTIVATIONS:
            raise UserError(
                f"{name} config: hidden_act is {values['hidden_act']!r}, only {' or '.join(ACTIVATIONS)} is supported"
            )
        values["layer_norm_eps"] = reader.positive_float(name, "layer_norm_eps", values["layer_norm_eps"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The config.json with which transformers builds the same network."""
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            **dataclasses.asdict(self),
        }


class TextLayer(nnx.Module):
    """Causal self-attention and a feed-forward, each normalised before and residual."""

    def __init__(self, config: TextEncoderConfig, *, dtype, rngs: nnx.Rngs):
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.hidden_act = config.hidden_act
        self.layer_norm1 = layer_norm(width, config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.q_proj = linear(width, width, dtype=dtype, rngs=rngs)
        self.k_proj = linear(width, width, dtype=dtype, rngs=rngs)
        self.v_proj = linear(width, width, dtype=dtype, rngs=rngs)
        self.out_proj = linear(width, width, dtype=dtype, rngs=rngs)
        self.layer_norm2 = layer_norm(width, config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.fc1 = linear(width, config.intermediate_size, dtype=dtype, rngs=rngs)
        self.fc2 = linear(config.intermediate_size, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B,T,D] -> [B,T,D]; a token sees itself and those before it."""
        y = self.layer_norm1(x)
        x = x + self.out_proj(attend(self.q_proj(y), self.k_proj(y), self.v_proj(y), self.heads, causal=True))
        return x + self.fc2(ACTIVATIONS[self.hidden_act](self.fc1(self.layer_norm2(x))))


def _embedding_init(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """Uniform with the standard deviation of CLIP's own start, 0.02."""
    return uniform(key, shape, 0.02 * 3**0.5).astype(dtype)


class TextEncoder(nnx.Module):
    """Token ids to the features that the UNet attends to: the last layer, normalised."""

    def __init__(self, config: TextEncoderConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.config = config
        self.dtype = dtype
        self.token_embedding, self.position_embedding = (
            nnx.Embed(
                count,
                config.hidden_size,
                embedding_init=_embedding_init,
                dtype=dtype,
                param_dtype=jnp.float32,
                rngs=rngs,
            )
            for count in (config.vocab_size, config.max_position_embeddings)
        )
        self.layers = nnx.List([TextLayer(config, dtype=dtype, rngs=rngs) for _ in range(config.num_hidden_layers)])
        self.final_layer_norm = layer_norm(config.hidden_size, config.layer_norm_eps, dtype=dtype, rngs=rngs)

    def __call__(self, token_ids: jax.Array) -> jax.Array:
        """[B,T] token ids, padded (T = 77 in Stable Diffusion) -> [B,T,D]; there is no padding mask."""
        length = token_ids.shape[1]
        if length > self.config.max_position_embeddings:
            raise ValueError(f"token_ids has {length} tokens, allowed are {self.config.max_position_embeddings}")
        x = self.token_embedding(token_ids) + self.position_embedding(jnp.arange(length))[None]
        for layer in self.layers:
            x = layer(x)
        return self.final_layer_norm(x)
