"""A base: a Stable Diffusion folder in the diffusers layout, loaded with all that the program uses of it."""

import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.diffusion.schedule import SchedulerConfig
from svp_jax.errors import UserError
from svp_jax.manifest import sha256_file
from svp_jax.models import VAE, ControlNet, TextEncoder, UNet
from svp_jax.models.unet import EncoderConfig
from svp_jax.weights.folder import load_model, read_config, weight_file

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TINY_BASE = Path(__file__).parent.parent / "assets" / "tiny_base"
_MODEL_FOLDERS = {"unet": UNet, "vae": VAE, "text_encoder": TextEncoder}
# A base may bring one, as a saved StableDiffusionControlNetPipeline does.
_CONTROLNET = "controlnet"
NETWORKS = (*_MODEL_FOLDERS, _CONTROLNET)


@dataclasses.dataclass(frozen=True)
class Base:
    """A base's networks, tokenizer and scheduler settings; a network that was not asked for is None.

    `controlnet` is one to start the training of both stages from; None too where the base has none.

    `sha256` is over the files in use, those of all networks: each one's config.json and weight file, the tokenizer
    and the scheduler's settings. Others that a download may hold (variants, a safety checker) change nothing.
    """

    unet: UNet | None
    vae: VAE | None
    text_encoder: TextEncoder | None
    controlnet: ControlNet | None
    tokenizer: "CLIPTokenizer"
    scheduler_config: SchedulerConfig
    folder: Path
    sha256: str


def load_base(base: str | Path, networks: Collection[str] = NETWORKS) -> Base:
    """Loads a base.

    Args:
        base: a folder with unet/, vae/, text_encoder/, tokenizer/ and scheduler/, or "tiny".
        networks: those whose weights are loaded, of `NETWORKS`.

    Raises:
        UserError: something is not there or does not fit together, by name.
    """
    folder = base_folder(base)
    configs = {}
    present = networks_of(folder)
    for name, model_class in present.items():
        found, configs[name] = read_config(folder / name)
        if found is not model_class:
            raise UserError(f"{folder / name} holds a {found.__name__}, it must hold a {model_class.__name__}")
    tokenizer = _load_tokenizer(folder / "tokenizer")
    _check_fit(folder, configs, len(tokenizer))
    return Base(
        **{name: load_model(folder / name) if name in networks and name in present else None for name in NETWORKS},
        tokenizer=tokenizer,
        scheduler_config=SchedulerConfig.from_json(folder / "scheduler" / "scheduler_config.json"),
        folder=folder,
        sha256=_sha256(folder),
    )


def base_folder(base: str | Path) -> Path:
    """The folder of a base given by path or as "tiny"; UserError where it is none."""
    folder = TINY_BASE if str(base) == "tiny" else Path(base)
    if folder.is_file():
        raise UserError(
            f"the base {base} is a file, a folder in the diffusers layout is needed; diffusers makes one: "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)"
        )
    if not folder.is_dir():
        raise UserError(f'the base {base}: no such folder; give a Stable Diffusion folder, or "tiny"')
    needed = (*_MODEL_FOLDERS, "tokenizer", "scheduler")
    absent = [name for name in needed if not (folder / name).is_dir()]
    if absent:
        raise UserError(f"the base {base} is not a Stable Diffusion folder: it has no {', no '.join(absent)} folder")
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


def networks_of(folder: Path) -> dict[str, type]:
    """The networks that a base has, by name of their folder."""
    return _MODEL_FOLDERS | ({_CONTROLNET: ControlNet} if (folder / _CONTROLNET).is_dir() else {})


@nnx.jit
def _encode(text_encoder: TextEncoder, ids: jax.Array) -> jax.Array:
    return text_encoder(ids)


def _load_tokenizer(folder: Path) -> "CLIPTokenizer":
    from transformers import CLIPTokenizer  # slow to import

    choices = (("vocab.json", "merges.txt"), ("tokenizer.json",))
    if not any(all((folder / name).is_file() for name in names) for names in choices):
        raise UserError(f"{folder} has neither vocab.json and merges.txt nor tokenizer.json; download the base again")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder} is not a readable CLIP tokenizer ({reason}); download the base again") from None


def _check_fit(folder: Path, configs: dict[str, Any], tokens: int) -> None:
    """UserError where the parts come from different bases."""
    unet, vae, text = (configs[name] for name in _MODEL_FOLDERS)
    if unet.cross_attention_dim != text.hidden_size:
        raise UserError(
            f"{folder}: the unet expects text features of {unet.cross_attention_dim} channels, "
            f"the text_encoder makes {text.hidden_size}; they are not of the same base"
        )
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise UserError(
            f"{folder}: the unet takes {unet.in_channels} channels and gives {unet.out_channels}, the "
            f"vae's latents have {vae.latent_channels}; only plain text-to-image bases are supported"
        )
    if vae.factor != 8:
        raise UserError(
            f"{folder}: one latent of the vae stands for {vae.factor} x {vae.factor} pixels; a ControlNet's hint "
            "encoder needs the 8 x 8 of Stable Diffusion"
        )
    if _CONTROLNET in configs and _shape(configs[_CONTROLNET]) != _shape(unet):
        raise UserError(f"{folder}: the controlnet is not built like the unet's encoder; they are not of the same base")
    if tokens > text.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer knows {tokens} tokens, the text_encoder "
            f"{text.vocab_size}; they are not of the same base"
        )


def _shape(config: EncoderConfig) -> dict[str, Any]:
    """What an encoder and its copy must agree in; attention in float32 is up to each of them."""
    return config.encoder_json() | {"upcast_attention": None}


def _sha256(folder: Path) -> str:
    used = [folder / "scheduler" / "scheduler_config.json"]
    used += [path for path in (folder / "tokenizer").iterdir() if path.suffix in (".json", ".txt")]
    for name, model_class in networks_of(folder).items():
        used += [folder / name / "config.json", weight_file(folder / name, model_class)]
    total = hashlib.sha256()
    for path in sorted(used):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()
