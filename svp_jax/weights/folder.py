"""One model's folder, config.json and weights, as diffusers and transformers save it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from svp_jax.errors import UserError
from svp_jax.manifest import write_json
from svp_jax.weights.component import NETWORKS, Component, Model, checked_component, component_of, instantiate
from svp_jax.weights.pickles import open_pickle
from svp_jax.weights.tensors import Tensors, open_safetensors, open_sharded, write_safetensors

# Class named in config.json -> the network's name, its weight file without suffix.
_DIFFUSERS_STEM, _TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
_CLASSES = {
    "UNet2DConditionModel": ("unet", _DIFFUSERS_STEM),
    "ControlNetModel": ("controlnet", _DIFFUSERS_STEM),
    "AutoencoderKL": ("vae", _DIFFUSERS_STEM),
    "CLIPTextModel": ("text_encoder", _TRANSFORMERS_STEM),
}
_STEMS = {NETWORKS[name][0]: stem for name, stem in _CLASSES.values()}
# Of the weights of one kind that a folder may hold, the first in this order is taken. "non_ema" holds a UNet's last
# weights, the plain file their running average.
_VARIANTS = ("", ".fp16", ".non_ema")
_PICKLE_STEMS = {_DIFFUSERS_STEM: _DIFFUSERS_STEM, _TRANSFORMERS_STEM: "pytorch_model"}


def load_model(folder: str | Path, dtype=jnp.float32) -> Model:
    """The model in a folder as diffusers or transformers saves it; its config.json says of which class.

    Args:
        folder: holds config.json and the weights: safetensors, whole or in shards with an index, or a pickle.
        dtype: compute dtype; parameters are float32 whatever the file holds.

    Raises:
        UserError: no such folder, file or class, a config that cannot be honoured, or weights that do not
            fit it; every unknown, missing, doubled and misshapen tensor is named.
    """
    return instantiate(open_model(folder), dtype)


def save_model(model: Model, folder: str | Path, dtype=jnp.float32) -> None:
    """Writes config.json and the weights so that load_model, and diffusers or transformers, open them.

    Args:
        model: UNet, ControlNet, VAE or TextEncoder.
        folder: made if it does not exist; other files in it are left alone.
        dtype: float32, float16 or bfloat16, of the tensors in the file.

    Raises:
        UserError: the folder cannot be written, or a parameter is not finite or does not fit into float16.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float16, jnp.bfloat16):
        raise ValueError(f"dtype is {dtype}, allowed are float32, float16 and bfloat16")
    write_model(component_of(model, Path(folder)).cast(dtype), folder)


def open_model(folder: str | Path, variant: str | None = None) -> Component:
    """The model of a folder, its tensors unread; UserError as `load_model`.

    Args:
        variant: "fp16" or "non_ema": take the file with this in its name, where there is one.
    """
    folder = Path(folder)
    model_class, config = read_config(folder)
    path = weight_file(folder, model_class, variant)
    return checked_component(model_class, config, open_weights(path), path)


def open_weights(path: Path) -> Tensors:
    """The tensors of a weight file or of an index of shards, unread."""
    if path.suffix == ".json":
        return open_sharded(path)
    return open_safetensors(path)[0] if path.suffix == ".safetensors" else open_pickle(path)


def weight_files(path: Path) -> list[Path]:
    """All files that hold the weights of `weight_file`: itself, and of an index its shards too."""
    if path.suffix != ".json":
        return [path]
    return [path, *sorted(path.parent / name for name in set(json.loads(path.read_text())["weight_map"].values()))]


def write_model(component: Component, folder: str | Path) -> None:
    """Writes a component's config.json and its weights as they are, tensor by tensor; UserError as `save_model`."""
    folder = Path(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{_STEMS[component.model_class]}.safetensors"
        write_safetensors(folder / name, component.tensors, {"format": "pt"})
        write_json(folder / "config.json", component.config.to_json())
    except OSError as error:
        raise UserError(f"{folder}: cannot write the model ({error}); free space or choose another") from None
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def read_config(folder: Path) -> tuple[type[Model], Any]:
    """The class of the model in `folder` and its config, without its weights; UserError as `load_model`."""
    class_name, content = _read_config(folder / "config.json")
    model_class, config_class = NETWORKS[_CLASSES[class_name][0]]
    try:
        return model_class, config_class.from_json(content)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


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


def weight_file(folder: Path, model_class: type[Model], variant: str | None = None) -> Path:
    """The file that holds a folder's weights, or the index of its shards; safetensors come before pickles."""
    stem = _STEMS[model_class]
    wanted = (f".{variant}",) if variant else ()
    # An index of shards has the tag at its end: diffusion_pytorch_model.safetensors.index.fp16.json.
    kinds = (f"{stem}{{}}.safetensors", f"{stem}.safetensors.index{{}}.json", f"{_PICKLE_STEMS[stem]}{{}}.bin")
    names = [kind.format(tag) for tag in wanted for kind in kinds]
    names += [kind.format(tag) for kind in kinds for tag in _VARIANTS]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".ckpt", ".json"))
    raise UserError(f"{folder} has no {stem}.safetensors, which must hold the weights; found only {', '.join(others)}")
