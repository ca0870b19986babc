"""What a training run is: frozen dataclasses, read from the YAML presets in `configs/`."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import yaml

from svp_jax.errors import UserError, check_keys, outside
from svp_jax.face.conditions import OUTLINES_WINDOW

TRAINABLE = ("locked", "unlocked", "full")
VAE_TRAINABLE = ("none", "decoder", "all")
DECAYS = ("constant", "cosine")
PRECISIONS = ("float32", "bfloat16")
REMAT = ("none", "light", "full")
OPTIMIZER_STATES = ("float32", "bfloat16", "factored")
PARALLEL = ("pmap", "fsdp")
DEVICES = ("any", "gpu", "cpu")
# Below this a float32 parameter would not move at all.
SMALLEST_RATE = 1e-12


@dataclasses.dataclass(frozen=True)
class VAEPass:
    """The optional first pass, which tunes the VAE on the person's frames and parsing maps."""

    trainable: str = "none"
    """none | decoder (the latent space stays, so that the base's UNet still fits) | all (tiny base only)."""
    steps: int = 0
    batch_size: int = 4
    learning_rate: float = 1e-4


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the two models: Stable Diffusion plus one ControlNet."""

    steps: int = 20000
    """Optimizer steps."""
    learning_rate: float = 1e-5
    unet_learning_rate: float = 2e-6
    """Of the UNet's trained part; the original ControlNet code advises about 2e-6 when unlocked."""
    trainable: str = "unlocked"
    """locked: ControlNet only | unlocked: and the UNet's decoder half | full: and the whole UNet."""
    controlnet: str = ""
    """Folder or file of a ControlNet to start from (of as many channels, or of one picture); empty: the base's own,
    else a copy of the UNet's encoder."""


@dataclasses.dataclass(frozen=True)
class Copies:
    """Changed copies of the training frames, ours; a short clip shows a head in few places and with one light."""

    per_frame: int = 0
    """How many of each training frame; 1 or 2 for short clips, 0 for none."""
    moved: bool = True
    """Each is shifted, turned and resized a little (`training/data/copies.py`)."""
    flipped: bool = False
    """About half of them are mirrored, with the labels of right and left exchanged; for faces that are alike on both
    sides."""
    colour: float = 0.0
    """Largest relative change of brightness, contrast and colour balance of the frame; parsing maps keep theirs."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All settings of `svp train`. A key that is not listed here is an error."""

    outlines: Stage = Stage()
    details: Stage = Stage()
    vae: VAEPass = VAEPass()
    prompt: str = ""
    """The text of every training frame; a description of the person leaves the ControlNet less to learn. Empty: that of
    the first capture, else "a portrait of a person"."""
    prompt_dropout: float = 0.0
    """Share of samples trained with the empty prompt, for guidance; 0, as on the tiny base it costs more than it gives
    (docs/benchmarks.md). ControlNet's authors drop half."""
    batch_size: int = 4
    """Samples of an optimizer step, over all devices together."""
    accumulation: int = 1
    """Parts that a step's batch is taken in, one after the other: memory of one part, gradients of all."""
    precision: str = "float32"
    """float32 | bfloat16: what the networks compute in; trained parameters are float32 always."""
    remat: str = "none"
    """none | light | full: what the backward pass computes again instead of keeping it (`training/step/remat.py`)."""
    optimizer_state: str = "float32"
    """float32 | bfloat16 | factored: 8, 4 or 2 bytes for each trained parameter (`training/step/optimizer.py`)."""
    ema_decay: float = 0.0
    """0: the avatar gets the last parameters; else their exponential moving average, 4 more bytes for each."""
    parallel: str = "pmap"
    """pmap: parameters whole on every device | fsdp: shared out over the devices, for those that cannot hold them."""
    stages_at_once: bool = True
    """Whether both stages are trained at once, each on half of the devices, where they are even in number (pmap)."""
    device: str = "any"
    """any | gpu | cpu: what to train on; it is an error where there is none."""
    warmup_steps: int = 500
    decay: str = "constant"
    """constant | cosine: the learning rate after warm-up."""
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    min_snr_gamma: float = 0.0
    """0: plain mean squared error; 5 is the value of Hang et al. (arXiv 2303.09556)."""
    timestep_shift: float = 1.0
    """1: all timesteps alike; more: noisier ones more often, where the condition decides (ours; 3 for short runs)."""
    window: int = OUTLINES_WINDOW
    """k, the number of consecutive face model renders that Stage I sees (our choice)."""
    copies: Copies = Copies()
    degrade_parsing: bool = True
    """Blur and shift Stage II's parsing maps in training, so that it survives Stage I's output."""
    temporal_current: float = 0.6
    """w_c, the weight of the current frame; the source leaves all four open, these are our choice."""
    temporal_previous: float = 0.4
    """w_p, the weight of the previous frame's latent."""
    temporal_noise: float = 1.0
    """w_n, the weight of the noise term."""
    temporal_tau: float = 0.9
    """Where in the denoising the previous frame enters: 0 = first (noisiest) step, 1 = last. After the last no network
    call follows, so that the result is a plain average of latents."""
    save_every: int = 1000
    preview_every: int = 1000
    preview_steps: int = 20
    """Denoising steps of previews, and of renders where --steps is not given."""
    loader_processes: int = 4
    """Processes that make batches ahead of the training step; 0: threads, for small pictures and few cores."""
    seed: int = 0


def load_config(path: Path) -> TrainConfig:
    """Reads a YAML preset.

    Raises:
        UserError: no such file, not YAML, an unknown key (the nearest known one is named), a wrong type or value.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}; presets lie in configs/") from None
    except UnicodeDecodeError:
        raise UserError(f"--config {path} is not a text file; presets lie in configs/") from None
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from None
    config = _build(TrainConfig, content, str(path), "")
    check(config, str(path))
    return config


def _build(kind: type, content: object, file: str, prefix: str):
    fields = {field.name: field for field in dataclasses.fields(kind)}
    check_keys(content, fields, file, prefix)
    values = {key: _convert(fields[key].type, value, file, prefix + key) for key, value in content.items()}
    return kind(**values)


def _convert(kind: type, value: object, file: str, name: str):
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, file, name + ".")
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-5 (without a dot) as text.
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise UserError(f"{file}: {name} must be {kind.__name__}, found {value!r}")
    return value


def check(config: TrainConfig, where: str = "config") -> None:
    """Raises UserError for values that cannot be trained with; the message begins with `where` and names the keys."""
    if problems := list(_problems(config)):
        raise UserError(f"{where}: {'; '.join(problems)}")


def _problems(config: TrainConfig) -> Iterator[str]:
    for name in ("outlines", "details"):
        stage = getattr(config, name)
        yield from _wrong_choice(f"{name}.trainable", stage.trainable, TRAINABLE)
        yield from _out_of_range(f"{name}.steps", stage.steps, 1)
        yield from _out_of_range(f"{name}.learning_rate", stage.learning_rate, SMALLEST_RATE)
        yield from _out_of_range(f"{name}.unet_learning_rate", stage.unet_learning_rate, SMALLEST_RATE)
    yield from _wrong_choice("vae.trainable", config.vae.trainable, VAE_TRAINABLE)
    if config.vae.trainable != "none":
        yield from _out_of_range("vae.steps", config.vae.steps, 1)
        yield from _out_of_range("vae.batch_size", config.vae.batch_size, 1)
        yield from _out_of_range("vae.learning_rate", config.vae.learning_rate, SMALLEST_RATE)
    yield from _wrong_choice("decay", config.decay, DECAYS)
    yield from _wrong_choice("precision", config.precision, PRECISIONS)
    yield from _wrong_choice("remat", config.remat, REMAT)
    yield from _wrong_choice("optimizer_state", config.optimizer_state, OPTIMIZER_STATES)
    yield from _wrong_choice("parallel", config.parallel, PARALLEL)
    yield from _wrong_choice("device", config.device, DEVICES)
    for name in ("batch_size", "accumulation", "window", "save_every", "preview_every", "preview_steps"):
        yield from _out_of_range(name, getattr(config, name), 1)
    for name in ("warmup_steps", "weight_decay", "min_snr_gamma", "loader_processes"):
        yield from _out_of_range(name, getattr(config, name), 0)
    yield from _copies_problems(config.copies)
    for name in ("clip_norm", "timestep_shift"):
        yield from _out_of_range(name, getattr(config, name), SMALLEST_RATE)
    for name in ("prompt_dropout", "temporal_tau"):
        yield from _out_of_range(name, getattr(config, name), 0, 1)
    # At 1 the average would never move.
    yield from _out_of_range("ema_decay", config.ema_decay, 0, 0.999999)
    for name in ("temporal_current", "temporal_previous", "temporal_noise"):
        yield from _out_of_range(name, getattr(config, name), -math.inf)
    yield from _out_of_range("seed", config.seed, 0, 2**32 - 1)


def _copies_problems(copies: Copies) -> Iterator[str]:
    yield from _out_of_range("copies.per_frame", copies.per_frame, 0)
    yield from _out_of_range("copies.colour", copies.colour, 0, 1)
    changed = copies.moved or copies.flipped or copies.colour
    if copies.per_frame and not changed:
        yield "copies.per_frame is not 0, but nothing changes the copies; set copies.moved, flipped or colour"
    if not copies.per_frame and (copies.flipped or copies.colour):
        yield "copies.per_frame is 0, so there are no copies to be flipped or coloured; set it to 1 or 2"


def _wrong_choice(name: str, value: str, allowed: tuple[str, ...]) -> Iterator[str]:
    if value not in allowed:
        yield f"{name} is {value!r}, allowed are {', '.join(allowed)}"


def _out_of_range(name: str, value: float, low: float, high: float = math.inf) -> Iterator[str]:
    if problem := outside(value, low, high):
        yield f"{name} is {value}, {problem}"
