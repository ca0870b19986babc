"""Attention of the UNet and of the VAE; logits and softmax are float32 whatever the compute dtype."""

import jax
import jax.numpy as jnp
from flax import nnx

from svp_jax.models.layers import GroupNorm, layer_norm, linear

# Hard-coded in the reference, whatever the config's norm_eps says.
TRANSFORMER_GROUP_NORM_EPS = 1e-6
TRANSFORMER_LAYER_NORM_EPS = 1e-5
VAE_NORM_EPS = 1e-6
# Queries that attend at once on the CPU (docs/notes.md); between these the time hardly changes.
_SHORTEST_BLOCK, _LONGEST_BLOCK = 64, 256


def attend(query: jax.Array, key: jax.Array, value: jax.Array, heads: int, causal: bool = False) -> jax.Array:
    """Multi-head attention, [B,T,D], [B,S,D], [B,S,D] -> [B,T,D], scaled by (D/heads)**-0.5.

    Logits accumulate in float32 from queries and keys in their own dtype, which equals upcasting those
    first; so a config's `upcast_attention` is honoured always.
    """

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1)

    if jax.default_backend() == "cpu":
        out = _attend_one_by_one(split(query), split(key), split(value), causal)
    else:
        out = jax.nn.dot_product_attention(split(query), split(key), split(value), is_causal=causal)
    return out.reshape(query.shape)


def _attend_one_by_one(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """Attention of [B,T,N,D] and [B,S,N,D], one head of one sample after the other, queries in blocks.

    XLA's batched matrix products are slow on the CPU and a whole batch of T x S weights leaves the caches: for
    1024 pixels this is about ten times as fast forward and four times backward, and it keeps no weights. Blocks of
    queries make 4096 pixels three times as fast again. The keys come before the queries: XLA takes the maximum and
    the sum of a column with vectors of numbers but those of a row one number at a time, and so do the gradients.
    Queries and values come as [D, T] and [D, S], so that nothing that is multiplied is turned first. The division
    comes last, where fewer numbers are left.
    """
    length = query.shape[1]
    block = length if causal else _block(length)

    @jax.checkpoint
    def one(q, k, v):
        logits = jnp.matmul(k, q) * len(q) ** -0.5
        if causal:
            logits = jnp.where(jnp.tri(*logits.shape, dtype=bool).T, logits, -jnp.inf)
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=0)))
        return jnp.matmul(v, weights) / weights.sum(axis=0)

    def flat(x):
        # XLA's CPU backend lacks some of the products of bfloat16 with a float32 result.
        return jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], x.shape[3]).astype(jnp.float32)

    def head(inputs):
        q, k, v = inputs
        blocks = q.reshape(length // block, block, -1).swapaxes(1, 2)
        turned = v.T
        return jax.lax.map(lambda q: one(q, k, turned), blocks).swapaxes(1, 2).reshape(q.shape)

    out = jax.lax.map(head, (flat(query), flat(key), flat(value)))
    return jnp.moveaxis(out.reshape(query.shape[0], query.shape[2], *out.shape[1:]), 1, 2).astype(value.dtype)


def _block(length: int) -> int:
    """The most queries of `length` that divide it and whose weights stay in the caches; all where few would."""
    block = max(size for size in range(1, _LONGEST_BLOCK + 1) if length % size == 0)
    return block if block >= _SHORTEST_BLOCK else length


class Attention(nnx.Module):
    """Self- or cross-attention of a transformer block."""

    def __init__(self, channels: int, context_channels: int, heads: int, *, dtype, rngs: nnx.Rngs):
        self.heads = heads
        self.to_q = linear(channels, channels, bias=False, dtype=dtype, rngs=rngs)
        self.to_k = linear(context_channels, channels, bias=False, dtype=dtype, rngs=rngs)
        self.to_v = linear(context_channels, channels, bias=False, dtype=dtype, rngs=rngs)
        self.to_out = linear(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """[B,T,C] attends to the context [B,S,D] -> [B,T,C]."""
        return self.to_out(attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention to the text, and a gated feed-forward, each normalised and residual."""

    def __init__(self, channels: int, context_channels: int, heads: int, *, dtype, rngs: nnx.Rngs):
        self.norm1, self.norm2, self.norm3 = (
            layer_norm(channels, TRANSFORMER_LAYER_NORM_EPS, dtype=dtype, rngs=rngs) for _ in range(3)
        )
        self.attn1 = Attention(channels, channels, heads, dtype=dtype, rngs=rngs)
        self.attn2 = Attention(channels, context_channels, heads, dtype=dtype, rngs=rngs)
        self.ff_in = linear(channels, 8 * channels, dtype=dtype, rngs=rngs)
        self.ff_out = linear(4 * channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, text: jax.Array) -> jax.Array:
        """[B,T,C] and text features [B,S,D] -> [B,T,C]."""
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), text)
        value, gate = jnp.split(self.ff_in(self.norm3(x)), 2, axis=-1)
        return x + self.ff_out(value * jax.nn.gelu(gate, approximate=False))


class SpatialTransformer(nnx.Module):
    """A transformer block over the pixels of a feature map.

    The projections are 1x1 convolutions on disk in SD 1.x and dense layers in SD 2.x; here they are dense.
    """

    def __init__(self, channels: int, context_channels: int, heads: int, groups: int, *, dtype, rngs: nnx.Rngs):
        self.norm = GroupNorm(channels, groups, TRANSFORMER_GROUP_NORM_EPS, dtype=dtype)
        self.proj_in = linear(channels, channels, dtype=dtype, rngs=rngs)
        self.block = TransformerBlock(channels, context_channels, heads, dtype=dtype, rngs=rngs)
        self.proj_out = linear(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, text: jax.Array) -> jax.Array:
        """[B,H,W,C] and text features [B,S,D] -> [B,H,W,C]."""
        b, h, w, c = x.shape
        y = self.proj_in(self.norm(x).reshape(b, h * w, c))
        return x + self.proj_out(self.block(y, text)).reshape(b, h, w, c)


class VAEAttention(nnx.Module):
    """Single-head self-attention over the pixels in the middle of the VAE, residual."""

    def __init__(self, channels: int, groups: int, *, dtype, rngs: nnx.Rngs):
        self.group_norm = GroupNorm(channels, groups, VAE_NORM_EPS, dtype=dtype)
        self.to_q = linear(channels, channels, dtype=dtype, rngs=rngs)
        self.to_k = linear(channels, channels, dtype=dtype, rngs=rngs)
        self.to_v = linear(channels, channels, dtype=dtype, rngs=rngs)
        self.to_out = linear(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B,H,W,C] -> [B,H,W,C]."""
        b, h, w, c = x.shape
        y = self.group_norm(x).reshape(b, h * w, c)
        y = attend(self.to_q(y), self.to_k(y), self.to_v(y), heads=1)
        return x + self.to_out(y).reshape(b, h, w, c)
