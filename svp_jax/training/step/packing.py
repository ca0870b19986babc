"""Small parameters as one: seven of ten tensors are biases and norms, and an update of each compiles for a minute."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from svp_jax.training.step.trainable import Flat

# Tensors of fewer numbers are packed.
SMALL = 2**14
# The name of the vector that they make.
PACKED = "small"


@dataclass(frozen=True)
class Packing:
    """Which parameters are packed.

    Attributes:
        small: (name, shape) of each, in the order of the vector.
        large: the names of the rest.
    """

    small: tuple[tuple[str, tuple[int, ...]], ...]
    large: tuple[str, ...]

    @classmethod
    def of(cls, flat: Flat) -> "Packing":
        """That of these parameters."""
        small = tuple((name, tuple(x.shape)) for name, x in flat.items() if x.size < SMALL)
        names = {name for name, _ in small}
        return cls(small, tuple(name for name in flat if name not in names))

    def pack(self, flat: Flat) -> Flat:
        """The large parameters, and one vector of all small ones, float32 [n]; traceable."""
        packed = {name: flat[name] for name in self.large}
        if self.small:
            packed[PACKED] = jnp.concatenate([jnp.ravel(flat[name]) for name, _ in self.small])
        return packed

    def unpack(self, packed: Flat) -> Flat:
        """The inverse of `pack`; traceable."""
        flat = {name: packed[name] for name in self.large}
        start = 0
        for name, shape in self.small:
            size = math.prod(shape)
            flat[name] = packed[PACKED][start : start + size].reshape(shape)
            start += size
        return flat

    def rates(self, multipliers: Mapping[str, float]) -> dict[str, float | np.ndarray]:
        """What each packed parameter's update is multiplied by: numbers, of the vector one for each of its numbers."""
        rates = {name: multipliers[name] for name in self.large}
        if self.small:
            sizes = [math.prod(shape) for _, shape in self.small]
            rates[PACKED] = np.repeat(np.float32([multipliers[name] for name, _ in self.small]), sizes)
        return rates

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters, in the order of `norms`."""
        return (*self.large, *(name for name, _ in self.small))

    def norms(self, packed: Flat):
        """The L2 norm of each parameter, float32 [number of `names`]."""
        squares = [jnp.sum(jnp.square(packed[name]))[None] for name in self.large]
        if self.small:
            sizes = [math.prod(shape) for _, shape in self.small]
            owner = np.repeat(np.arange(len(sizes)), sizes)
            squares.append(jnp.zeros(len(sizes)).at[owner].add(jnp.square(packed[PACKED])))
        return jnp.sqrt(jnp.concatenate(squares))
