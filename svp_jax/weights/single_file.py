"""Single files of weights under the original names, as A1111 and ComfyUI read them: opened, and written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from svp_jax.diffusion.schedule import ddim_settings
from svp_jax.errors import UserError
from svp_jax.weights import families
from svp_jax.weights.component import NETWORKS, Component, check_shapes, checked_component, expected_shapes
from svp_jax.weights.families import SD2, Family
from svp_jax.weights.ldm import from_original, original_shapes, places, to_original
from svp_jax.weights.pickles import SUFFIXES as PICKLES
from svp_jax.weights.pickles import open_pickle
from svp_jax.weights.recognise import Part, averaged, parts_of, prefix_of
from svp_jax.weights.tensors import Tensors, open_safetensors, write_safetensors

SUFFIXES = (".safetensors", *PICKLES)
Prediction = Literal["epsilon", "v_prediction"]
# Texts in the headers of files that are written here: every config, so that a file comes back as it was.
CONFIGS, SCHEDULER_TEXT = "svp_jax.configs", "svp_jax.scheduler"
# Of 768-pixel models the standard deviation of this bias is larger than of 512-pixel ones; ComfyUI tells them so too.
_TELLS_V, _V_DEVIATION = "output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09


@dataclass(frozen=True)
class SingleFile:
    """What a single file holds, unread.

    `components` are by the name of their folder in diffusers' layout. `scheduler` is the content of a
    scheduler_config.json, None of single networks. `family` is None of a VAE alone. `ema` says which of a UNet's
    weights were taken where the file holds both, else None. `texts` are those of its header, `description` what it was
    recognised as, in words.
    """

    path: Path
    components: dict[str, Component]
    scheduler: dict[str, Any] | None
    family: Family | None
    ema: bool | None
    texts: Mapping[str, str]
    description: str


def open_single_file(path: Path, ema: bool = False, prediction: Prediction | None = None) -> SingleFile:
    """Recognises a file and opens what it holds.

    Args:
        path: .safetensors, or a pickle (.ckpt, .pth, .pt, .bin), which needs torch.
        ema: of a UNet whose running average lies beside its last weights, take the average.
        prediction: what the UNet predicts; None takes what the file says, or guesses from the weights.

    Raises:
        UserError: the file cannot be read, is of another family (it says which), or does not hold exactly what such
            a file must; it names all unknown, missing and misshapen tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: the name of a file of weights ends in {', '.join(SUFFIXES)}")
    tensors, texts = open_safetensors(path) if path.suffix == ".safetensors" else (open_pickle(path), {})
    parts = parts_of(tensors, path)
    average = averaged(parts["unet"].tensors, tensors) if "unet" in parts else {}
    if ema:
        if not average:
            raise UserError(f"--ema: {path} holds no running average of a UNet's weights; leave the flag out")
        parts["unet"] = Part(parts["unet"].naming, average)
    try:
        known = _own_configs(texts)
        family = _family(parts, known)
        scheduler, how = _scheduler(parts, family, texts, tensors, prediction)
        configs = {name: known.get(name) or _config(name, part, family, scheduler) for name, part in parts.items()}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    components = {name: _component(name, configs[name], part, path) for name, part in parts.items()}
    kept = ema if average else None
    whole = "text_encoder" in parts
    description = _description(components, family, scheduler["prediction_type"] if whole else None, how, kept)
    return SingleFile(path, components, scheduler if whole else None, family, kept, texts, description)


def header(texts: Mapping[str, str], name: str) -> dict[str, Any]:
    """The JSON object that a file which was written here has under `name` in its header; {} of other files.

    Raises:
        UserError: it was edited and is no JSON object any more.
    """
    try:
        content = json.loads(texts.get(name, "{}"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"the text {name} in its header is no JSON object; convert the weights again")
    return content


def _own_configs(texts: Mapping[str, str]) -> dict[str, Any]:
    """The configs that a file which was written here has in its header."""
    configs = header(texts, CONFIGS)
    if any(name not in NETWORKS or not isinstance(config, dict) for name, config in configs.items()):
        raise UserError(f"the text {CONFIGS} in its header was edited; convert the weights again")
    return {name: NETWORKS[name][1].from_json(config) for name, config in configs.items()}


def _family(parts: Mapping[str, Part], known: Mapping[str, Any]) -> Family | None:
    """From the file's own configs, else from the tensors; None of a VAE alone, which both families share."""
    for name in parts.keys() - known.keys():
        if parts[name].naming == "diffusers" and name != "text_encoder":
            raise UserError("it is of a diffusers folder, and its config.json is not in it; give the folder as SOURCE")
    for name in ("unet", "controlnet"):
        if name in known:
            return families.family_of_config(known[name])
        if name in parts:
            return families.family_of(parts[name].tensors)
    return None


def _scheduler(
    parts: Mapping[str, Part],
    family: Family | None,
    texts: Mapping[str, str],
    tensors: Tensors,
    prediction: Prediction | None,
) -> tuple[dict[str, Any], str]:
    """The scheduler's settings, and in words where its prediction type is from: flag, header, markers, guess."""
    settings, how = families.SCHEDULER, "as all of this family"
    if stored := header(texts, SCHEDULER_TEXT):
        settings, how = ddim_settings(stored), "as its header says"
    elif "v_pred" in tensors:
        settings, how = settings | {"prediction_type": "v_prediction"}, "as its tensors say"
        if "ztsnr" in tensors:
            settings |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    elif family is SD2 and "unet" in parts:
        tells = parts["unet"].tensors.get(_TELLS_V)
        is_v = tells is not None and tells.read().astype(np.float64).std() > _V_DEVIATION
        settings = settings | {"prediction_type": "v_prediction" if is_v else "epsilon"}
        how = "guessed from the weights; --prediction says it"
    if prediction is not None:
        settings, how = settings | {"prediction_type": prediction}, "as --prediction says"
    return settings, how


def _config(name: str, part: Part, family: Family | None, scheduler: Mapping[str, Any]) -> Any:
    if name == "vae":
        return families.vae_config(part.tensors)
    if family is None:
        raise UserError("it holds a text encoder without a UNet; give a whole checkpoint")
    if name == "unet":
        return families.unet_config(part.tensors, family, scheduler["prediction_type"] == "v_prediction")
    if name == "controlnet":
        return families.controlnet_config(part.tensors, family)
    of_text = families.open_clip_config if part.naming == "open_clip" else families.clip_config
    return of_text(part.tensors, family)


def _component(name: str, config: Any, part: Part, path: Path) -> Component:
    model_class = NETWORKS[name][0]
    if part.naming == "diffusers":
        return checked_component(model_class, config, part.tensors, path)
    shapes = expected_shapes(model_class, config)
    located = places(model_class, config, shapes, open_clip=part.naming == "open_clip")
    check_shapes(part.tensors, original_shapes(located), f"{path} does not hold a whole {model_class.__name__}")
    return Component(model_class, config, from_original(part.tensors, located, shapes), path)


def _description(
    components: Mapping[str, Component], family: Family | None, predicts: str | None, how: str, ema: bool | None
) -> str:
    names = []
    for name, component in components.items():
        text = component.model_class.__name__
        if name == "controlnet":
            text += f" of {component.config.conditioning_channels} condition channels"
        if name == "unet" and ema is not None:
            text += f" ({'averaged' if ema else 'last'} weights, the {'last' if ema else 'averaged'} ones lie beside)"
        names.append(f"{text} in {component.dtype}")
    what = f"{family.name}: " if family else ""
    return what + ", ".join(names) + (f"; predicts {predicts} ({how})" if predicts else "")


def write_single_file(
    path: Path,
    components: Mapping[str, Component],
    scheduler: Mapping[str, Any] | None,
    texts: Mapping[str, str],
    bare: bool = False,
) -> None:
    """Writes components under their original names and prefixes into one file.

    Args:
        scheduler: the content of scheduler_config.json, of a base.
        texts: for the file's header, besides the scheduler and all configs, which are put there too.
        bare: leave the prefix away, of one network.

    Raises:
        UserError: a tensor holds numbers that are not finite, or the file cannot be written.
    """
    tensors: dict[str, Any] = {}
    for name, component in components.items():
        shapes = expected_shapes(component.model_class, component.config)
        open_clip = name == "text_encoder" and component.config.hidden_act == SD2.hidden_act
        located = places(component.model_class, component.config, shapes, open_clip)
        # A VAE alone has no prefix in any published file, a ControlNet alone may have none.
        prefix = "" if bare or components.keys() == {"vae"} else prefix_of(name, open_clip)
        tensors |= {prefix + key: tensor for key, tensor in to_original(component.tensors, located).items()}
    all_texts = {
        "format": "pt",
        CONFIGS: json.dumps({name: c.config.to_json() for name, c in components.items()}),
        **texts,
    }
    if scheduler is not None:
        all_texts[SCHEDULER_TEXT] = json.dumps(scheduler)
    try:
        write_safetensors(path, tensors, all_texts)
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror or error}); free space or choose another") from None
