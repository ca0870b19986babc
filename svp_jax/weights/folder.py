"""One model's folder (config.json and safetensors) to a model and back, strictly both ways."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from svp_jax.errors import UserError
from svp_jax.manifest import write_json
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
from svp_jax.weights.tables import Tensor, canonical_name, tensors_on_disk

Model = UNet | ControlNet | VAE | TextEncoder

# Class named in config.json -> our class, its config, its weight file.
_DIFFUSERS_FILE, _TRANSFORMERS_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"
_CLASSES = {
    "UNet2DConditionModel": (UNet, UNetConfig, _DIFFUSERS_FILE),
    "ControlNetModel": (ControlNet, ControlNetConfig, _DIFFUSERS_FILE),
    "AutoencoderKL": (VAE, VAEConfig, _DIFFUSERS_FILE),
    "CLIPTextModel": (TextEncoder, TextEncoderConfig, _TRANSFORMERS_FILE),
}
_FILES = {model_class: file for model_class, _, file in _CLASSES.values()}
_FLOATS = ("F64", "F32", "F16", "BF16")


def load_model(folder: str | Path, dtype=jnp.float32) -> Model:
    """The model in a folder as diffusers or transformers saves it; its config.json says of which class.

    Args:
        folder: holds config.json and diffusion_pytorch_model.safetensors or model.safetensors.
        dtype: compute dtype; parameters are float32 whatever the file holds.

    Raises:
        UserError: no such folder, file or class, a config that cannot be honoured, or weights that do not
            fit it; every unknown, missing, doubled and misshapen tensor is named.
    """
    folder = Path(folder)
    model_class, config = read_config(folder)
    abstract = nnx.eval_shape(lambda: model_class(config, rngs=_OneKey(), dtype=dtype))
    graphdef, state = nnx.split(abstract)
    parameters = dict(nnx.to_flat_state(state))
    tensors = tensors_on_disk(model_class, config, ((path, leaf.shape) for path, leaf in parameters.items()))
    arrays = _read_tensors(weight_file(folder, model_class), model_class, tensors)
    loaded = nnx.from_flat_state([(path, leaf.replace(arrays.pop(path))) for path, leaf in parameters.items()])
    return nnx.merge(graphdef, loaded)


def read_config(folder: Path) -> tuple[type[Model], Any]:
    """The class of the model in `folder` and its config, without its weights; UserError as `load_model`."""
    class_name, content = _read_config(folder / "config.json")
    model_class, config_class, _ = _CLASSES[class_name]
    try:
        return model_class, config_class.from_json(content)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def save_model(model: Model, folder: str | Path, dtype=jnp.float32) -> None:
    """Writes config.json and the weights so that load_model, and diffusers or transformers, open them.

    Args:
        model: UNet, ControlNet, VAE or TextEncoder.
        folder: made if it does not exist; other files in it are left alone.
        dtype: float32 or float16, of the tensors in the file.

    Raises:
        UserError: the folder cannot be written, or a parameter is not finite or does not fit into float16.
    """
    folder = Path(folder)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float16):
        raise ValueError(f"dtype is {dtype}, allowed are float32 and float16")
    parameters = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    table = tensors_on_disk(type(model), model.config, ((path, leaf.shape) for path, leaf in parameters.items()))
    tensors = {}
    for name, tensor in table.items():
        value = np.asarray(parameters[tensor.path][...])
        if not np.isfinite(value).all():
            raise UserError(f"{folder}: {name} holds numbers that are not finite; it cannot be used, train it again")
        if np.abs(value).max() > np.finfo(dtype).max:
            raise UserError(f"{folder}: {name} holds values beyond the range of {dtype}; save it as float32")
        tensors[name] = np.ascontiguousarray(tensor.layout.to_disk(value), dtype=dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _renamed_at_end(folder / _FILES[type(model)]) as beside:
            save_file(tensors, beside, metadata={"format": "pt"})
        write_json(folder / "config.json", model.config.to_json())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot write the model ({error}); free space or choose another") from None


class _OneKey:
    """Stands for nnx.Rngs where only shapes are wanted: counting traced keys makes those take 20 s instead of 1."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


def _read_config(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The name of the class that a config.json describes, and its content."""
    if not path.is_file():
        raise UserError(f"{path.parent} is not a model folder: it has no config.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    class_name = content.get("_class_name") or next(iter(content.get("architectures") or ()), None)
    if class_name not in _CLASSES:
        raise UserError(f"{path} describes the class {class_name!r}, supported are {', '.join(_CLASSES)}")
    return class_name, content


def weight_file(folder: Path, model_class: type) -> Path:
    """The folder's safetensors file; the float16 variant where only that was downloaded."""
    path = folder / _FILES[model_class]
    for candidate in (path, path.with_suffix(".fp16.safetensors")):
        if candidate.is_file():
            return candidate
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".ckpt", ".json"))
    raise UserError(f"{folder} has no {path.name}, which must hold the weights; found only {', '.join(others)}")


def _read_tensors(path: Path, model_class: type, expected: Mapping[str, Tensor]) -> dict[tuple, jax.Array]:
    """Parameters as in memory, float32, by their path; the file must hold exactly the `expected` tensors."""
    try:
        with safe_open(path, framework="np") as file:
            sources: dict[str, list[str]] = {}
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                name = canonical_name(model_class, key)
                if name is not None:
                    sources.setdefault(name, []).append(key)
            problems = _problems(file, sources, expected)
            if problems:
                raise UserError(f"{path} does not fit its config.json: {'; '.join(problems)}")
            arrays = {}
            for name, tensor in expected.items():
                value = file.get_tensor(sources[name][0]).astype(np.float32)
                arrays[tensor.path] = jnp.asarray(np.ascontiguousarray(tensor.layout.to_memory(value)))
            return arrays
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); download or save it again") from None


def _problems(file, sources: Mapping[str, list[str]], expected: Mapping[str, Tensor]) -> list[str]:
    """One line per kind of problem, with all the tensors that have it."""
    unknown = [key for name, keys in sources.items() if name not in expected for key in keys]
    missing = [name for name in expected if name not in sources]
    doubled = [" and ".join(keys) for keys in sources.values() if len(keys) > 1]
    misshapen, wrong_type = [], []
    for name in expected.keys() & sources.keys():
        for key in sources[name]:
            part = file.get_slice(key)
            shape = tuple(part.get_shape())
            if shape != expected[name].shape:
                misshapen.append(f"{key} is {list(shape)}, not {list(expected[name].shape)}")
            if part.get_dtype() not in _FLOATS:
                wrong_type.append(f"{key} is {part.get_dtype()}")
    kinds = {
        "unknown tensors": unknown,
        "missing tensors": missing,
        "doubled tensors": doubled,
        "misshapen tensors": misshapen,
        "tensors that are not floating point": wrong_type,
    }
    return [f"{kind}: {', '.join(sorted(items))}" for kind, items in kinds.items() if items]


@contextlib.contextmanager
def _renamed_at_end(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it becomes `path` without an error and disappears with one."""
    beside = path.with_name(path.name + ".tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
