"""A base: a Stable Diffusion folder in the diffusers layout, loaded with all that the program uses of it."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.errors import UserError
from svp_jax.manifest import sha256_file
from svp_jax.models import VAE, TextEncoder, UNet
from svp_jax.weights.folder import load_model

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TINY_BASE = Path(__file__).parent.parent / "assets" / "tiny_base"
_MODEL_FOLDERS = {"unet": UNet, "vae": VAE, "text_encoder": TextEncoder}


@dataclasses.dataclass(frozen=True)
class Base:
    """A base's networks, tokenizer and scheduler settings; `sha256` is over the files that were used."""

    unet: UNet
    vae: VAE
    text_encoder: TextEncoder
    tokenizer: "CLIPTokenizer"
    scheduler_config: dict[str, Any]
    folder: Path
    sha256: str


def load_base(base: str | Path, dtype=jnp.float32) -> Base:
    """Loads a base.

    Args:
        base: a folder with unet/, vae/, text_encoder/, tokenizer/ and scheduler/, or "tiny".
        dtype: compute dtype of the networks; parameters are float32.

    Raises:
        UserError: something is not there or does not fit together, by name.
    """
    folder = base_folder(base)
    models = {}
    for name, model_class in _MODEL_FOLDERS.items():
        models[name] = load_model(folder / name, dtype)
        if not isinstance(models[name], model_class):
            found = type(models[name]).__name__
            raise UserError(f"{folder / name} holds a {found}, it must hold a {model_class.__name__}")
    result = Base(
        **models,
        tokenizer=_load_tokenizer(folder / "tokenizer"),
        scheduler_config=_read_scheduler(folder / "scheduler" / "scheduler_config.json"),
        folder=folder,
        sha256=_sha256(folder),
    )
    _check_fit(result)
    return result


def base_folder(base: str | Path) -> Path:
    """The folder of a base given by path or as "tiny"; UserError where it is none."""
    folder = TINY_BASE if str(base) == "tiny" else Path(base)
    if folder.is_file():
        raise UserError(f"--base {base} is a file, a folder is needed; make one with `svp convert {base} FOLDER`")
    if not folder.is_dir():
        raise UserError(f'--base {base}: no such folder; give a Stable Diffusion folder, or "tiny"')
    needed = (*_MODEL_FOLDERS, "tokenizer", "scheduler")
    absent = [name for name in needed if not (folder / name).is_dir()]
    if absent:
        raise UserError(f"--base {base} is not a Stable Diffusion folder: it has no {', no '.join(absent)} folder")
    return folder


def encode_prompts(base: Base, prompts: Sequence[str]) -> jax.Array:
    """Text features [B,77,D] of the prompts, each padded to the full length; "" is the empty prompt.

    Raises:
        UserError: a prompt is too long; it names how long, and what is allowed.
    """
    length = base.text_encoder.config.max_position_embeddings
    ids = base.tokenizer(list(prompts), padding="max_length", max_length=length)["input_ids"]
    for prompt, row in zip(prompts, ids, strict=True):
        if len(row) > length:
            raise UserError(
                f"the prompt {prompt[:40]!r}... has {len(row) - 2} tokens, allowed are {length - 2}; shorten it"
            )
    return _encode(base.text_encoder, jnp.asarray(np.array(ids, np.int32)))


@nnx.jit
def _encode(text_encoder: TextEncoder, ids: jax.Array) -> jax.Array:
    return text_encoder(ids)


def _load_tokenizer(folder: Path) -> "CLIPTokenizer":
    from transformers import CLIPTokenizer  # slow to import

    is_there = lambda *names: all((folder / name).is_file() for name in names)  # noqa: E731
    if not is_there("vocab.json", "merges.txt") and not is_there("tokenizer.json"):
        raise UserError(f"{folder} has neither vocab.json and merges.txt nor tokenizer.json; download the base again")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder} is not a readable CLIP tokenizer ({reason}); download the base again") from None


def _read_scheduler(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); download the base again") from None


def _check_fit(base: Base) -> None:
    """UserError where the parts come from different bases."""
    unet, vae, text = base.unet.config, base.vae.config, base.text_encoder.config
    if unet.cross_attention_dim != text.hidden_size:
        raise UserError(
            f"{base.folder}: the unet expects text features of {unet.cross_attention_dim} channels, "
            f"the text_encoder makes {text.hidden_size}; they are not of the same base"
        )
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise UserError(
            f"{base.folder}: the unet takes {unet.in_channels} channels and gives {unet.out_channels}, the "
            f"vae's latents have {vae.latent_channels}; only plain text-to-image bases are supported"
        )
    if len(base.tokenizer) > text.vocab_size:
        raise UserError(
            f"{base.folder}: the tokenizer knows {len(base.tokenizer)} tokens, the text_encoder "
            f"{text.vocab_size}; they are not of the same base"
        )


def _sha256(folder: Path) -> str:
    """Over the files in use: a downloaded base may hold others (variants, a safety checker)."""
    total = hashlib.sha256()
    names = [*_MODEL_FOLDERS, "tokenizer", "scheduler"]
    for path in sorted(p for name in names for p in (folder / name).iterdir() if p.suffix in _USED_SUFFIXES):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


_USED_SUFFIXES = (".safetensors", ".json", ".txt")
