"""A base: Stable Diffusion as a folder in the diffusers layout or as a single file, with all that is used of it."""

import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.diffusion.schedule import SchedulerConfig, read_settings
from svp_jax.errors import UserError
from svp_jax.manifest import sha256_file
from svp_jax.models import VAE, ControlNet, TextEncoder, TextEncoderConfig, UNet
from svp_jax.models.unet import EncoderConfig
from svp_jax.weights.component import NETWORKS, Component, instantiate
from svp_jax.weights.folder import open_model, weight_files
from svp_jax.weights.single_file import open_single_file
from svp_jax.weights.tokenizer import VOCABULARY, find_vocabulary, load_tokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TINY_BASE = Path(__file__).parent.parent / "assets" / "tiny_base"
NEEDED = ("unet", "vae", "text_encoder")
# A base may bring one, as a saved StableDiffusionControlNetPipeline does.
CONTROLNET = "controlnet"
ALL = tuple(NETWORKS)
DENOISERS = ("unet", CONTROLNET)


@dataclasses.dataclass(frozen=True)
class BaseFiles:
    """A base whose networks have not been read: `components` by the name of their folder.

    `scheduler` is the content of a scheduler_config.json. `tokenizer` is a folder, and `pad_token` the token that fills
    prompts up, None for the folder's own. `used` are the files that are read of it, under names that do not depend on
    where the base lies. `description` says what a single file was recognised as; it is empty for a folder.
    """

    path: Path
    components: dict[str, Component]
    scheduler: dict[str, Any]
    tokenizer: Path
    pad_token: str | None
    used: dict[str, Path]
    description: str

    def sha256(self) -> str:
        """SHA-256 over all the files in use; others that a download may hold (variants, a checker) change nothing."""
        total = hashlib.sha256()
        for name, path in sorted(self.used.items()):
            total.update(f"{name}\0{sha256_file(path)}\n".encode())
        return total.hexdigest()


@dataclasses.dataclass(frozen=True)
class Base:
    """A base's networks, tokenizer and scheduler settings; a network that was not asked for is None.

    `controlnet` is one to start the training of both stages from; None too where the base has none. The rest is as in
    `BaseFiles`.
    """

    unet: UNet | None
    vae: VAE | None
    text_encoder: TextEncoder | None
    controlnet: ControlNet | None
    tokenizer: "CLIPTokenizer"
    scheduler_config: SchedulerConfig
    path: Path
    sha256: str
    description: str


def load_base(base: str | Path, networks: Collection[str] = ALL, dtype=jnp.float32) -> Base:
    """Loads a base.

    Args:
        base: a folder with unet/, vae/, text_encoder/, tokenizer/ and scheduler/, a single file, or "tiny".
        networks: those whose weights are loaded, of `ALL`.
        dtype: what unet and controlnet compute in; the rest does in float32.

    Raises:
        UserError: something is not there or does not fit together, by name.
    """
    files = open_base(base)
    tokenizer = load_tokenizer(files.tokenizer, files.pad_token)
    _check_fit(files, len(tokenizer))
    wanted = {name: files.components.get(name) if name in networks else None for name in ALL}
    return Base(
        **{
            name: component and instantiate(component, dtype if name in DENOISERS else jnp.float32)
            for name, component in wanted.items()
        },
        tokenizer=tokenizer,
        scheduler_config=_scheduler_config(files),
        path=files.path,
        sha256=files.sha256(),
        description=files.description,
    )


def _scheduler_config(files: BaseFiles) -> SchedulerConfig:
    try:
        return SchedulerConfig.from_json(files.scheduler)
    except UserError as error:
        raise UserError(f"{files.path}: {error}") from None


def base_path(base: str | Path) -> Path:
    """Where a base lies that is given by its path or as "tiny"."""
    return TINY_BASE if str(base) == "tiny" else Path(base)


def base_name(base: str | Path) -> str:
    """How a manifest names a base: "tiny", which lies where the program does, or a path from the root."""
    return "tiny" if str(base) == "tiny" else str(Path(base).absolute())


def open_base(base: str | Path, variant: str | None = None) -> BaseFiles:
    """A base with its networks unread; UserError where it is none, as `load_base`.

    Args:
        variant: of a folder, the weight files with this tag ("fp16", "non_ema"), of those networks that have one.
    """
    path = base_path(base)
    if path.is_file():
        return _open_file(path)
    if not path.is_dir():
        raise UserError(f'the base {base}: no such folder or file; give a Stable Diffusion, or "tiny"')
    absent = [name for name in (*NEEDED, "tokenizer", "scheduler") if not (path / name).is_dir()]
    if absent:
        raise UserError(f"the base {base} is not a Stable Diffusion folder: it has no {', no '.join(absent)} folder")
    return _open_folder(path, variant)


def networks_of(folder: Path) -> tuple[str, ...]:
    """The names of the networks that a base's folder has."""
    return ALL if (folder / CONTROLNET).is_dir() else NEEDED


def _open_folder(folder: Path, variant: str | None) -> BaseFiles:
    components = {}
    scheduler = folder / "scheduler" / "scheduler_config.json"
    used = [scheduler]
    used += [path for path in (folder / "tokenizer").iterdir() if path.suffix in (".json", ".txt")]
    for name in networks_of(folder):
        component = open_model(folder / name, variant)
        model_class = NETWORKS[name][0]
        if component.model_class is not model_class:
            found = component.model_class.__name__
            raise UserError(f"{folder / name} holds a {found}, it must hold a {model_class.__name__}")
        components[name] = component
        used += [folder / name / "config.json", *weight_files(component.path)]
    if variant and not any(f".{variant}." in component.path.name for component in components.values()):
        raise UserError(f"--variant {variant}: no network in {folder} has a weight file of that name")
    names = {path.relative_to(folder).as_posix(): path for path in used}
    return BaseFiles(folder, components, read_settings(scheduler), folder / "tokenizer", None, names, "")


def _open_file(path: Path) -> BaseFiles:
    file = open_single_file(path)
    absent = [name for name in NEEDED if name not in file.components]
    if absent:
        raise UserError(f"the base {path} holds no {', no '.join(absent)}; give a whole Stable Diffusion checkpoint")
    vocabulary = find_vocabulary()
    used = {"weights": path} | {name: vocabulary / name for name in VOCABULARY}
    return BaseFiles(path, file.components, file.scheduler, vocabulary, file.family.pad_token, used, file.description)


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


def _check_fit(base: BaseFiles, tokens: int) -> None:
    """UserError where the parts come from different bases."""
    configs = {name: component.config for name, component in base.components.items()}
    unet, vae, text = (configs[name] for name in NEEDED)
    if unet.cross_attention_dim != text.hidden_size:
        raise UserError(
            f"{base.path}: the unet expects text features of {unet.cross_attention_dim} channels, "
            f"the text_encoder makes {text.hidden_size}; they are not of the same base"
        )
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise UserError(
            f"{base.path}: the unet takes {unet.in_channels} channels and gives {unet.out_channels}, the "
            f"vae's latents have {vae.latent_channels}; only plain text-to-image bases are supported"
        )
    if vae.factor != 8:
        raise UserError(
            f"{base.path}: one latent of the vae stands for {vae.factor} x {vae.factor} pixels; a ControlNet's hint "
            "encoder needs the 8 x 8 of Stable Diffusion"
        )
    if CONTROLNET in configs and encoder_shape(configs[CONTROLNET]) != encoder_shape(unet):
        raise UserError(
            f"{base.path}: the controlnet is not built like the unet's encoder; they are not of the same base"
        )
    try:
        check_tokens(text, tokens)
    except UserError as error:
        raise UserError(f"{base.path}: {error}; they are not of the same base") from None


def check_tokens(text: TextEncoderConfig, tokens: int) -> None:
    """UserError where a tokenizer of so many tokens is not that of the text encoder."""
    if tokens > text.vocab_size:
        raise UserError(f"the tokenizer knows {tokens} tokens, the text_encoder {text.vocab_size}")


def encoder_shape(config: EncoderConfig) -> dict[str, Any]:
    """What an encoder and its copy must agree in; attention in float32 is up to each of them."""
    return config.encoder_json() | {"upcast_attention": None}
