"""Rematerialisation: activations within a block are computed again in the backward pass instead of being kept.

Parameters that are shared out over devices are whole within one block at a time by the same means.

| policy | kept of a block | memory | time |
| --- | --- | --- | --- |
| none | everything | most | least |
| light | results of convolutions and matrix products, but not the weights of attention | less | a little more |
| full | its input | least | about a third more: the forward pass once again |
"""

from collections.abc import Callable

import jax
from flax import nnx

from svp_jax.models.attention import SpatialTransformer, VAEAttention
from svp_jax.models.layers import Conv, ResnetBlock, TimeEmbedding
from svp_jax.training.step.trainable import assemble, flatten

BLOCKS = (ResnetBlock, SpatialTransformer, VAEAttention)
# What lies between the blocks and has large parameters too.
BETWEEN = (Conv, TimeEmbedding)


Gather = Callable[[str, jax.Array], jax.Array]
"""(name, share of the parameter) -> the whole parameter."""


def rematerialise(model: nnx.Module, policy: str, gather: Gather | None = None, name: str = "") -> None:
    """Wraps the resnets and transformers (`BLOCKS`) of `model` so that `policy` holds; changes it in place.

    For use within a loss, on models that were put together there: parameters get other names by it.

    Args:
        gather: makes a shared out parameter whole. With it "none" is as "light", since what a block keeps must not be
            its whole parameters.
        name: of the model, which the names that `gather` gets begin with.
    """
    if policy == "none" and gather is None:
        return
    saveable = jax.checkpoint_policies.nothing_saveable if policy == "full" else _light
    wrapped = BLOCKS if gather is None else BLOCKS + BETWEEN

    def walk(module: nnx.Module, path: str) -> None:
        for key, value in list(vars(module).items()):
            if isinstance(value, nnx.List):
                value[:] = [wrap(item, f"{path}/{key}/{index}") for index, item in enumerate(value)]
            elif isinstance(value, nnx.Module):
                setattr(module, key, wrap(value, f"{path}/{key}"))

    def wrap(value: nnx.Module, path: str) -> nnx.Module:
        if isinstance(value, wrapped):
            return Rematerialised(value, saveable, gather, path)
        walk(value, path)
        return value

    walk(model, name)


class Rematerialised(nnx.Module):
    """A block of which the backward pass finds only what `saveable`, a policy of `jax.checkpoint`, lets it keep."""

    def __init__(self, block: nnx.Module, saveable: Callable, gather: Gather | None, path: str):
        self.block, self.saveable, self.gather, self.path = block, saveable, gather, path

    def __call__(self, *inputs):
        structures, flat = flatten({self.path: self.block})

        def call(flat, *inputs):
            if self.gather is not None:
                flat = {name: self.gather(name, x) for name, x in flat.items()}
            return assemble(structures, flat)[self.path](*inputs)

        return jax.checkpoint(call, policy=self.saveable)(flat, *inputs)


def _light(primitive, *args, **parameters) -> bool:
    # Products with batch dimensions are those of attention: [T, S] for each head.
    products = jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *args, **parameters)
    return products or primitive.name == "conv_general_dilated"
