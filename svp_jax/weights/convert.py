"""`svp convert`: bases, avatars and single networks between diffusers folders and single files, bit for bit."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from svp_jax.diffusion.schedule import ddim_settings
from svp_jax.errors import UserError
from svp_jax.manifest import FILE_NAMES, sha256_file, write_json
from svp_jax.models import VAE
from svp_jax.weights.avatar import open_avatar, stage_networks
from svp_jax.weights.base import CONTROLNET, NEEDED, check_tokens, open_base
from svp_jax.weights.component import NETWORKS, Component
from svp_jax.weights.exported import AVATAR_TEXT
from svp_jax.weights.folder import open_model, write_model
from svp_jax.weights.single_file import Prediction, open_single_file, write_single_file
from svp_jax.weights.target import SINGLE_FILE, check_target, made_parents, new_folder
from svp_jax.weights.tokenizer import find_vocabulary, load_tokenizer, write_tokenizer

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": jnp.bfloat16}
# Where a target says what it was made from: a folder's file, a file's header.
RECORD, RECORD_TEXT = "conversion.json", "svp_jax.conversion"


@dataclass(frozen=True)
class Source:
    """What is converted, unread: networks by the name of their folder in diffusers' layout.

    `kind` is "file", "avatar", "base" or "network". `recognised` says in words what it is. `scheduler` is the content
    of a scheduler_config.json; it and `tokenizer`, the folder to copy, are None of single networks. Of a file, and of
    an avatar whose base is one, a tokenizer has to be made: then `pad_token` is the token that it fills prompts up
    with, and `tokenizer` has the vocabulary, or is None. `choices` is what was chosen of the source, for the record,
    and `texts` are for the header of a file that is made of it.
    """

    kind: str
    components: dict[str, Component]
    recognised: str
    scheduler: Mapping[str, Any] | None = None
    tokenizer: Path | None = None
    pad_token: str | None = None
    choices: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def convert(
    source: Path,
    target: Path,
    *,
    stage: Literal["outlines", "details"] | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    ema: bool = False,
    prediction: Prediction | None = None,
    variant: str | None = None,
    base: str | Path | None = None,
    vae: Path | None = None,
    tokenizer: Path | None = None,
    bare: bool = False,
) -> str:
    """Converts a base, a network or an avatar's stage; returns what the source was recognised as.

    Tensors keep their bits unless `dtype` is given. They are read and written one by one.

    Args:
        source: a single file, a base's folder or "tiny", one network's folder, or an avatar.
        target: a new folder, or a file that ends in .safetensors.
        stage: of an avatar, the one to take; None is "details".
        dtype: of the tensors in the target; None keeps the source's.
        ema: of a UNet whose running average lies beside its last weights, take the average.
        prediction: what the UNet of a single file predicts, where that has to be guessed.
        variant: of a folder, the weight files with this tag ("fp16", "non_ema") where it has them.
        base: where the avatar's base lies now, if not where it lay in training.
        vae: a file or folder with a VAE to put in place of the source's own.
        tokenizer: a folder with CLIP's vocab.json and merges.txt, for a folder that is made of a single file.
        bare: write one network into a file without its prefix.

    Raises:
        UserError: the source cannot be read or lacks something, an option has no meaning for it, the target exists or
            cannot be written; nothing is left of it then.
    """
    source, target = Path(source), Path(target)
    check_target(target)
    kind = _kind(source)
    to_file = target.suffix == SINGLE_FILE
    makes_tokenizer = not to_file and kind in ("file", "avatar")
    for flag, given, has_meaning, where in (
        ("--stage", stage, kind == "avatar", "an avatar"),
        ("--base", base, kind == "avatar", "an avatar"),
        ("--ema", ema, kind == "file", "a single file"),
        ("--prediction", prediction, kind == "file", "a single file"),
        ("--variant", variant, kind in ("base", "network"), "a folder of diffusers"),
        ("--tokenizer", tokenizer, makes_tokenizer, "a folder that is made of a single file"),
        ("--bare", bare, to_file, f"a target that ends in {SINGLE_FILE}"),
    ):
        if given and not has_meaning:
            raise UserError(f"{flag} is for {where}; leave it out")
    if kind == "file":
        opened = _open_file(source, ema, prediction)
    elif kind == "avatar":
        opened = _open_avatar(source, stage or "details", base)
    else:
        opened = _open_folder(source, kind, variant)
    components = opened.components
    if vae is not None:
        components = components | {"vae": _vae(vae)}
    if dtype is not None:
        components = {name: component.cast(DTYPES[dtype]) for name, component in components.items()}
    if bare and len(components) > 1:
        raise UserError("--bare is for one network; give the folder of a ControlNet, VAE or UNet as SOURCE")
    record = {"source": source.name, "recognised": opened.recognised, **opened.choices}
    record |= {"dtype": dtype, "vae": None if vae is None else str(vae)}
    if to_file:
        texts = {RECORD_TEXT: json.dumps(record), **opened.texts}
        with made_parents(target):
            write_single_file(target, components, opened.scheduler, texts, bare)
        return opened.recognised
    with new_folder(target) as folder:
        if len(components) == 1:
            write_model(next(iter(components.values())), folder)
        else:
            _write_base(opened, components, folder, tokenizer)
        write_json(folder / RECORD, record)
    return opened.recognised


def _kind(source: Path) -> str:
    if source.is_file():
        return "file"
    if not source.is_dir() and str(source) != "tiny":
        raise UserError(f'{source}: no such file or folder; "tiny" is the embedded base')
    if (source / FILE_NAMES["avatar"]).is_file():
        return "avatar"
    return "network" if (source / "config.json").is_file() else "base"


def _open_file(source: Path, ema: bool, prediction: Prediction | None) -> Source:
    file = open_single_file(source, ema, prediction)
    choices = {"sha256": sha256_file(source)}
    if file.ema is not None:
        choices["unet_weights"] = "averaged" if file.ema else "last"
    pad_token = file.family.pad_token if file.family else None
    return Source("file", file.components, file.description, file.scheduler, None, pad_token, choices)


def _open_avatar(source: Path, stage: str, base: str | Path | None) -> Source:
    manifest, files = open_avatar(source, base)
    components = stage_networks(source, manifest, files, stage)
    return Source(
        "avatar",
        components,
        f"an avatar's stage {stage}: {_listed(components)}",
        ddim_settings(files.scheduler),
        files.tokenizer,
        files.pad_token,
        {"stage": stage},
        {AVATAR_TEXT: json.dumps({"stage": stage, "manifest": manifest})},
    )


def _open_folder(source: Path, kind: str, variant: str | None) -> Source:
    choices = {"variant": variant}
    if kind == "base":
        files = open_base(source, variant)
        recognised = f"a diffusers folder: {_listed(files.components)}"
        return Source(
            kind, files.components, recognised, ddim_settings(files.scheduler), files.tokenizer, choices=choices
        )
    component = open_model(source, variant)
    if variant and f".{variant}." not in component.path.name:
        raise UserError(f"--variant {variant}: {source} has no weight file of that name")
    name = next(name for name, (model_class, _) in NETWORKS.items() if model_class is component.model_class)
    return Source(kind, {name: component}, _listed({name: component}), choices=choices)


def _listed(components: Mapping[str, Component]) -> str:
    return ", ".join(f"{component.model_class.__name__} in {component.dtype}" for component in components.values())


def _vae(path: Path) -> Component:
    """The VAE in a file, in a folder of its own or in a base's."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"--vae {path}: no such file or folder")
    if path.is_file():
        found = open_single_file(path).components.get("vae")
    else:
        found = open_model(path / "vae" if (path / "vae").is_dir() else path)
    if found is None or found.model_class is not VAE:
        raise UserError(f"--vae {path} holds no VAE")
    return found


def _write_base(source: Source, components: Mapping[str, Component], folder: Path, tokenizer: Path | None) -> None:
    """A folder as StableDiffusionPipeline, or with a ControlNet StableDiffusionControlNetPipeline, saves itself."""
    absent = [name for name in NEEDED if name not in components]
    if absent:
        hint = "; give one with --vae" if absent == ["vae"] else ""
        raise UserError(f"the source holds no {', no '.join(absent)}, which a diffusers folder needs{hint}")
    if source.pad_token is None:
        shutil.copytree(source.tokenizer, folder / "tokenizer")
    else:
        vocabulary = find_vocabulary(tokenizer or source.tokenizer)
        write_tokenizer(vocabulary, folder / "tokenizer", source.pad_token)
        try:
            check_tokens(components["text_encoder"].config, len(load_tokenizer(folder / "tokenizer")))
        except UserError as error:
            raise UserError(f"{vocabulary}: {error}; give --tokenizer the base's own") from None
    for name, component in components.items():
        write_model(component, folder / name)
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", dict(source.scheduler))
    write_json(folder / "model_index.json", model_index(CONTROLNET in components))


def model_index(has_controlnet: bool) -> dict[str, Any]:
    """The model_index.json with which diffusers opens a folder as one of its pipelines."""
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    if not has_controlnet:
        return {"_class_name": "StableDiffusionPipeline", **parts}
    parts["controlnet"] = ["diffusers", "ControlNetModel"]
    return {"_class_name": "StableDiffusionControlNetPipeline", **parts}
