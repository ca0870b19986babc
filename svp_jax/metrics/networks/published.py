"""Published files of weights and the networks that they fill: found, read and checked tensor by tensor."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.manifest import sha256_file
from svp_jax.model_files import look_up_model, model_folders
from svp_jax.weights.pickles import open_pickle
from svp_jax.weights.tables import Layout, TensorSpec
from svp_jax.weights.tensors import FLOATS, Tensors, check_finite, open_safetensors

_NAMED = 3  # tensors of each kind that a message names: a file of other weights has hundreds


@dataclass(frozen=True)
class PublishedFile:
    """One published file of weights.

    Attributes:
        file: its path in the registry and the folders of model files.
        rows: (pattern of a parameter's path, its name in the file, layout); the file holds the parameters that match.
        unused: pattern of the names of its other tensors, which the metric does not need.
    """

    file: str
    rows: tuple[tuple[str, str, Layout], ...]
    unused: str


def open_published(
    what: str, make: Callable[[], nnx.Module], files: Sequence[PublishedFile]
) -> tuple[nnx.GraphDef, nnx.State, dict[str, str]]:
    """A network with its published weights.

    Each file is looked for in the folders of model files, first as .safetensors with the same names and shapes, which
    needs no torch, then as it is published.

    Args:
        what: the network, for messages.
        make: builds it with any numbers.
        files: that hold all its parameters.

    Returns:
        Structure and parameters (`nnx.merge` joins them), and the SHA-256 of each file by its name.

    Raises:
        UserError: a file is absent, cannot be read, needs torch where that is not installed, or does not hold exactly
            the tensors of this network.
    """
    paths = _find(what, [each.file for each in files])
    structure, state = nnx.split(nnx.eval_shape(make))
    parameters = dict(nnx.to_flat_state(state))
    arrays = {}
    for published, path in zip(files, paths, strict=True):
        arrays |= _read(what, path, published, {key: leaf.shape for key, leaf in parameters.items()})
    filled = nnx.from_flat_state([(key, leaf.replace(arrays[key])) for key, leaf in parameters.items()])
    return structure, filled, {path.name: sha256_file(path) for path in paths}


def _find(what: str, names: Sequence[str]) -> list[Path]:
    found = [look_up_model(str(Path(name).with_suffix(".safetensors"))) or look_up_model(name) for name in names]
    absent = [name for name, path in zip(names, found, strict=True) if path is None]
    if absent:
        folders = " or ".join(map(str, model_folders()))
        raise UserError(
            f"{what} needs {' and '.join(absent)}, not found in {folders}: `svp assets --fetch {' '.join(absent)}` "
            "downloads that; or set SVP_MODELS to the folder that has it"
        )
    return found


def _read(what: str, path: Path, published: PublishedFile, shapes: Mapping[tuple, tuple]) -> dict[tuple, jnp.ndarray]:
    """The parameters that the file holds, by their paths."""
    tensors = open_safetensors(path)[0] if path.suffix == ".safetensors" else open_pickle(path)
    specs = _specs(published.rows, shapes)
    needed = {name: tensor for name, tensor in tensors.items() if not re.fullmatch(published.unused, name)}
    _check(needed, specs, f"{path} does not hold the weights of {what}", published.file)

    def read(name: str, spec: TensorSpec) -> jnp.ndarray:
        value = needed[name].read()
        check_finite(value, name, path)
        return jnp.asarray(np.ascontiguousarray(spec.layout.to_memory(value), np.float32))

    return {spec.path: read(name, spec) for name, spec in specs.items()}


def _specs(rows: Sequence[tuple[str, str, Layout]], shapes: Mapping[tuple, tuple]) -> dict[str, TensorSpec]:
    """Name in the file -> where it belongs, for each parameter that a row matches."""
    specs = {}
    for path, shape in shapes.items():
        for pattern, template, layout in rows:
            if match := re.fullmatch(pattern, ".".join(map(str, path))):
                specs[match.expand(template)] = TensorSpec(path, layout, layout.disk_shape(shape))
    return specs


def _check(found: Tensors, specs: Mapping[str, TensorSpec], what: str, file: str) -> None:
    """UserError unless `found` are exactly the tensors of `specs`; names the first misfits of each kind."""
    shared = [name for name in specs if name in found]
    misfits = {
        "unknown": [name for name in found if name not in specs],
        "missing": [name for name in specs if name not in found],
        "misshapen": [
            f"{name} ({list(found[name].shape)}, not {list(specs[name].shape)})"
            for name in shared
            if tuple(found[name].shape) != specs[name].shape
        ],
        "not floating point": [f"{name} ({found[name].dtype})" for name in shared if found[name].dtype not in FLOATS],
    }
    problems = [f"{kind} {_first(names)}" for kind, names in misfits.items() if names]
    if problems:
        raise UserError(f"{what}: {'; '.join(problems)}; remove it and run `svp assets --fetch {file}`")


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
