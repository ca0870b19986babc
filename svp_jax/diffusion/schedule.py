"""Noise schedules: float64 tables on the host, float32 numbers per step for the sampler to scan over.

Paper symbol -> name: sqrt(alpha_bar) -> signal, sqrt(1 - alpha_bar) -> noise, alpha_bar of the next, cleaner
step -> alpha_prev, sigma -> sigma, sqrt(1 - alpha_prev - sigma^2) -> direction. The rules are those of
diffusers' DDIMScheduler.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from svp_jax.errors import UserError, outside

BETA_SCHEDULES = ("linear", "scaled_linear")
PREDICTION_TYPES = ("epsilon", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")


@dataclass(frozen=True)
class SchedulerConfig:
    """What a `scheduler_config.json` says about the noise; other samplers' own settings are ignored."""

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str
    prediction_type: str
    timestep_spacing: str
    steps_offset: int
    set_alpha_to_one: bool
    rescale_betas_zero_snr: bool

    @classmethod
    def from_json(cls, config: "dict | str | Path | SchedulerConfig") -> "SchedulerConfig":
        """Reads a scheduler's dict, or the path of its JSON file.

        Missing fields take DDIMScheduler's defaults. Stable Diffusion ships the config of another sampler
        (PNDM, Euler, ...); there a missing `clip_sample` or `set_alpha_to_one` counts as false.

        Raises:
            UserError: an unreadable file, or a value that changes the result and is not supported.
        """
        if isinstance(config, SchedulerConfig):
            return config
        where = "scheduler config"
        if not isinstance(config, dict):
            where, config = str(config), read_settings(Path(config))

        clips = config.get("_class_name", "DDIMScheduler") in ("DDIMScheduler", "DDPMScheduler")
        for name, default in (("clip_sample", clips), ("thresholding", False)):
            if config.get(name, default):
                raise UserError(
                    f"{where}: {name} is true (clip_sample of DDIM and DDPM also when left out), but latents "
                    f'must not be clipped; set "{name}": false'
                )
        if config.get("trained_betas") is not None:
            raise UserError(f"{where}: trained_betas is not supported; allowed: null, with a beta_schedule")

        result = cls(
            num_train_timesteps=config.get("num_train_timesteps", 1000),
            beta_start=config.get("beta_start", 0.0001),
            beta_end=config.get("beta_end", 0.02),
            beta_schedule=config.get("beta_schedule", "linear"),
            prediction_type=config.get("prediction_type", "epsilon"),
            timestep_spacing=config.get("timestep_spacing", "leading"),
            steps_offset=config.get("steps_offset", 0),
            set_alpha_to_one=config.get("set_alpha_to_one", clips),
            rescale_betas_zero_snr=config.get("rescale_betas_zero_snr", False),
        )
        for name, allowed in (
            ("beta_schedule", BETA_SCHEDULES),
            ("prediction_type", PREDICTION_TYPES),
            ("timestep_spacing", SPACINGS),
        ):
            if getattr(result, name) not in allowed:
                value = getattr(result, name)
                raise UserError(f"{where}: {name} is {value!r}, allowed: {', '.join(allowed)}")
        for name, low, high in (
            ("num_train_timesteps", 1, math.inf),
            ("beta_start", 0, 1),
            ("beta_end", 0, 1),
            ("steps_offset", 0, math.inf),
        ):
            value = getattr(result, name)
            problem = outside(value, low, high) if isinstance(value, int | float) else "allowed are numbers"
            if problem:
                raise UserError(f"{where}: {name} is {value!r}, {problem}")
        if result.rescale_betas_zero_snr and result.prediction_type == "epsilon":
            raise UserError(
                f"{where}: rescale_betas_zero_snr needs prediction_type v_prediction, not epsilon: at the "
                "last timestep the noise says nothing about the image"
            )
        return result


def ddim_settings(config: dict | SchedulerConfig) -> dict:
    """The scheduler_config.json with which diffusers' DDIMScheduler takes the same steps as this program.

    What Stable Diffusion ships is another sampler's: opened as DDIM, what it leaves out would be DDIM's defaults.
    """
    settings = dataclasses.asdict(SchedulerConfig.from_json(config))
    return {"_class_name": "DDIMScheduler", **settings, "clip_sample": False}


def read_settings(path: Path) -> dict:
    """The content of a scheduler_config.json; UserError names the file where it cannot be read."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the scheduler config ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(config).__name__}")
    return config


def alphas_cumprod(config: dict | str | Path | SchedulerConfig) -> np.ndarray:
    """Cumulative alphas, float64 [num_train_timesteps], from nearly 1 down to nearly 0 (zero SNR: to 0)."""
    config = SchedulerConfig.from_json(config)
    if config.beta_schedule == "linear":
        betas = np.linspace(config.beta_start, config.beta_end, config.num_train_timesteps)
    else:  # the schedule that the latent-diffusion code calls "linear"
        betas = np.linspace(config.beta_start**0.5, config.beta_end**0.5, config.num_train_timesteps) ** 2
    alphas = np.cumprod(1.0 - betas)
    if not config.rescale_betas_zero_snr:
        return alphas
    # Algorithm 1 of Lin et al., arXiv 2305.08891: the last root becomes 0, the first one stays.
    roots = np.sqrt(alphas)
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


def inference_timesteps(config: SchedulerConfig, num_steps: int) -> np.ndarray:
    """The timesteps to visit, int64 [num_steps], noisiest first."""
    total = config.num_train_timesteps
    if not 1 <= num_steps <= total:
        raise UserError(f"{num_steps} denoising steps: allowed are 1 to {total}")
    if config.timestep_spacing == "leading":
        steps = np.arange(num_steps)[::-1] * (total // num_steps) + config.steps_offset
    elif config.timestep_spacing == "trailing":
        # arange may give one entry too many for a step that is not exact in binary.
        steps = np.round(np.arange(total, 0, -total / num_steps)).astype(np.int64)[:num_steps] - 1
    else:
        steps = np.linspace(0, total - 1, num_steps).round()[::-1]
    if steps[0] >= total:
        raise UserError(
            f"{num_steps} denoising steps: with steps_offset {config.steps_offset} of the scheduler config the first "
            f"timestep would be {steps[0]}, past the last one, {total - 1}; use fewer steps"
        )
    return steps.astype(np.int64)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("timesteps", "signal", "noise", "signal_prev", "direction", "sigma"),
    meta_fields=("prediction_type", "stochastic"),
)
@dataclass(frozen=True)
class Schedule:
    """The denoising steps, noisiest first: a pytree of [num_steps] arrays; one step is a slice of it."""

    timesteps: jax.Array  # int32, what the network is told
    signal: jax.Array  # float32 like all below: sqrt(alpha_bar_t)
    noise: jax.Array  # sqrt(1 - alpha_bar_t)
    signal_prev: jax.Array  # sqrt(alpha_bar_prev)
    direction: jax.Array  # sqrt(1 - alpha_bar_prev - sigma^2)
    sigma: jax.Array  # standard deviation of the fresh noise; all 0 for eta = 0
    prediction_type: str  # "epsilon" or "v_prediction"
    stochastic: bool  # eta > 0: fresh noise is drawn, so a key is needed

    @classmethod
    def from_config(cls, config: dict | str | Path | SchedulerConfig, num_steps: int, eta: float = 0.0) -> "Schedule":
        """The DDIM steps for a scheduler's dict or the path of its JSON.

        As in diffusers, the step after t is t - num_train_timesteps // num_steps whatever the spacing, and
        below 0 it is the clean end: alpha_bar[0], or 1 with `set_alpha_to_one`.

        Raises:
            UserError: an unsupported config, or `num_steps` outside 1..num_train_timesteps.
        """
        if not 0.0 <= eta <= 1.0:
            raise ValueError(f"eta is {eta}, allowed: 0 (deterministic DDIM) to 1 (DDPM)")
        config = SchedulerConfig.from_json(config)
        alphas = alphas_cumprod(config)
        timesteps = inference_timesteps(config, num_steps)
        after = timesteps - config.num_train_timesteps // num_steps
        alpha = alphas[timesteps]
        end = 1.0 if config.set_alpha_to_one else alphas[0]
        alpha_prev = np.where(after >= 0, alphas[np.maximum(after, 0)], end)
        variance = (1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev)
        sigma = eta * np.sqrt(variance)
        # With eta = 1 at zero SNR the difference is 0 up to rounding.
        direction = np.sqrt(np.maximum(1 - alpha_prev - sigma**2, 0.0))
        floats = (np.sqrt(alpha), np.sqrt(1 - alpha), np.sqrt(alpha_prev), direction, sigma)
        return cls(
            timesteps.astype(np.int32),
            *(column.astype(np.float32) for column in floats),
            prediction_type=config.prediction_type,
            stochastic=eta > 0,
        )

    @property
    def num_steps(self) -> int:
        return self.timesteps.shape[0]


@partial(jax.tree_util.register_dataclass, data_fields=("signal", "noise", "snr"), meta_fields=("prediction_type",))
@dataclass(frozen=True)
class TrainingSchedule:
    """The noise levels of all training timesteps: float32 [num_train_timesteps] arrays, cleanest first."""

    signal: jax.Array  # sqrt(alpha_bar)
    noise: jax.Array  # sqrt(1 - alpha_bar)
    snr: jax.Array  # alpha_bar / (1 - alpha_bar); 0 at zero terminal SNR
    prediction_type: str

    @classmethod
    def from_config(cls, config: dict | str | Path | SchedulerConfig) -> "TrainingSchedule":
        """From a scheduler's dict or the path of its JSON. Raises UserError for an unsupported config."""
        config = SchedulerConfig.from_json(config)
        alphas = alphas_cumprod(config)
        columns = (np.sqrt(alphas), np.sqrt(1 - alphas), alphas / (1 - alphas))
        return cls(*(column.astype(np.float32) for column in columns), prediction_type=config.prediction_type)

    @property
    def num_timesteps(self) -> int:
        return self.signal.shape[0]
