"""One network of a base or an avatar, its tensors under diffusers' names and still on disk; to a model and back."""

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.models import (
    VAE,
    ControlNet,
    ControlNetConfig,
    TextEncoder,
    TextEncoderConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)
from svp_jax.weights.tables import TensorSpec, canonical_name, tensors_on_disk
from svp_jax.weights.tensors import FLOATS, LazyTensor, Tensors, check_finite

Model = UNet | ControlNet | VAE | TextEncoder
# Name of a network's folder in diffusers' layout -> its class and config.
NETWORKS = {
    "unet": (UNet, UNetConfig),
    "vae": (VAE, VAEConfig),
    "text_encoder": (TextEncoder, TextEncoderConfig),
    "controlnet": (ControlNet, ControlNetConfig),
}


@dataclass(frozen=True)
class Component:
    """A network that has not been read yet: exactly the tensors that its config asks for. `path` is for messages."""

    model_class: type[Model]
    config: Any
    tensors: Tensors
    path: Path

    @property
    def dtype(self) -> np.dtype:
        """The type of most of its numbers."""
        sizes: dict[np.dtype, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + int(np.prod(tensor.shape))
        return max(sizes, key=sizes.__getitem__)

    def cast(self, dtype: np.dtype) -> "Component":
        """The same with all numbers as `dtype`.

        Reading raises UserError where a number is too large for `dtype`, by the tensor's name.
        """
        return replace(
            self, tensors={name: _cast(t, np.dtype(dtype), name, self.path) for name, t in self.tensors.items()}
        )


def _cast(tensor: LazyTensor, dtype: np.dtype, name: str, path: Path) -> LazyTensor:
    def read() -> np.ndarray:
        value = tensor.read()
        check_finite(value, name, path)
        with np.errstate(over="ignore"):
            cast = value.astype(dtype)
        if not np.isfinite(cast).all():
            raise UserError(f"{path}: {name} holds values beyond the range of {dtype}; save it as float32")
        return cast

    return tensor if tensor.dtype == dtype else LazyTensor(tensor.shape, dtype, read)


@functools.lru_cache(maxsize=32)
def tensor_specs(model_class: type[Model], config: Any) -> Mapping[str, TensorSpec]:
    """Every tensor that a network of this config has: name on disk -> its shape there and its place in memory."""
    _, parameters = _structure(model_class, config, jnp.float32)
    return tensors_on_disk(model_class, config, ((path, leaf.shape) for path, leaf in parameters.items()))


def expected_shapes(model_class: type[Model], config: Any) -> dict[str, tuple[int, ...]]:
    """The names on disk and shapes of all tensors of a network."""
    return {name: tensor.shape for name, tensor in tensor_specs(model_class, config).items()}


def checked_component(model_class: type[Model], config: Any, tensors: Tensors, path: Path) -> Component:
    """The network of `config` with these tensors, whose names may be old ones of diffusers or transformers.

    Raises:
        UserError: they are not exactly those that the config asks for; names the unknown, missing, doubled and
            misshapen ones.
    """
    sources: dict[str, list[str]] = {}
    for key in tensors:
        name = canonical_name(model_class, key)
        if name is not None:
            sources.setdefault(name, []).append(key)
    doubled = [" and ".join(keys) for keys in sources.values() if len(keys) > 1]
    named = {name: tensors[keys[0]] for name, keys in sources.items()}
    check_shapes(named, expected_shapes(model_class, config), f"{path} does not fit its config.json", doubled)
    return Component(model_class, config, named, path)


def check_shapes(
    found: Tensors, expected: Mapping[str, tuple[int, ...]], what: str, doubled: list[str] | None = None
) -> None:
    """Raises UserError unless `found` are the `expected` tensors, of floating point; all misfits in one message.

    Args:
        what: the message's beginning.
        doubled: tensors that were found under two names, which is a misfit too.
    """
    shared = sorted(found.keys() & expected.keys())
    kinds = {
        "unknown tensors": found.keys() - expected.keys(),
        "missing tensors": expected.keys() - found.keys(),
        "doubled tensors": doubled or [],
        "misshapen tensors": [
            f"{name} is {list(found[name].shape)}, not {list(expected[name])}"
            for name in shared
            if tuple(found[name].shape) != tuple(expected[name])
        ],
        "tensors that are not floating point": [
            f"{name} is {found[name].dtype}" for name in shared if found[name].dtype not in FLOATS
        ],
    }
    problems = [f"{kind}: {', '.join(sorted(items))}" for kind, items in kinds.items() if items]
    if problems:
        raise UserError(f"{what}: {'; '.join(problems)}")


def instantiate(component: Component, dtype=jnp.float32) -> Model:
    """Reads the network into memory: parameters are float32 whatever the file holds, `dtype` is the compute dtype.

    Raises:
        UserError: a tensor holds numbers that are not finite, by name.
    """
    graphdef, abstract = _structure(component.model_class, component.config, dtype)
    table = tensor_specs(component.model_class, component.config)

    def read(name: str) -> jax.Array:
        value = component.tensors[name].read()
        check_finite(value, name, component.path)
        return jnp.asarray(np.ascontiguousarray(table[name].layout.to_memory(value), dtype=np.float32))

    # Turning a billion numbers around is what takes the time; NumPy lets other threads run meanwhile.
    with ThreadPoolExecutor() as pool:
        arrays = dict(zip((spec.path for spec in table.values()), pool.map(read, table), strict=True))
    return nnx.merge(
        graphdef, nnx.from_flat_state([(path, leaf.replace(arrays[path])) for path, leaf in abstract.items()])
    )


def component_of(model: Model, path: Path) -> Component:
    """The component that a model in memory is, in float32, to be written to `path`."""
    parameters = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))

    def lazy(tensor: TensorSpec) -> LazyTensor:
        def read() -> np.ndarray:
            return np.asarray(tensor.layout.to_disk(np.asarray(parameters[tensor.path][...])), np.float32)

        return LazyTensor(tensor.shape, np.dtype(np.float32), read)

    table = tensor_specs(type(model), model.config)
    return Component(type(model), model.config, {name: lazy(tensor) for name, tensor in table.items()}, path)


@functools.lru_cache(maxsize=32)
def _structure(model_class: type[Model], config: Any, dtype) -> tuple[nnx.GraphDef, Mapping[tuple, Any]]:
    """The network without numbers, and its parameters' shapes by path; tracing takes about a second."""
    abstract = nnx.eval_shape(lambda: model_class(config, rngs=_OneKey(), dtype=dtype))
    graphdef, state = nnx.split(abstract)
    return graphdef, dict(nnx.to_flat_state(state))


class _OneKey:
    """Stands for nnx.Rngs where only shapes are wanted: counting traced keys makes those take 20 s instead of 1."""

    def params(self) -> jax.Array:
        return jax.random.key(0)
