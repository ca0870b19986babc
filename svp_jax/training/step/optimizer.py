"""AdamW, its learning rate over a run, and how much memory its state takes.

State for each parameter: 8 bytes (float32), 4 (bfloat16) or 2 (factored: the second moment of a matrix as one row and
one column).
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from svp_jax.training.config import TrainConfig
from svp_jax.training.step.moments import scale_by_adam
from svp_jax.training.step.packing import Packing

B1, B2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class OptimizerSettings:
    """How a run optimizes, but for its number of steps.

    Attributes:
        learning_rate: the peak; multiplied by each parameter's own multiplier.
        warmup_steps: of linear warm-up, at most half of the run.
        decay: "constant" or "cosine" (to 0 at the run's end).
        clip_norm: largest global norm of the gradients.
        weight_decay: of AdamW, decoupled.
        state: "float32", "bfloat16" or "factored".
    """

    learning_rate: float
    warmup_steps: int
    decay: str
    clip_norm: float
    weight_decay: float
    state: str = "float32"

    @classmethod
    def of(cls, config: TrainConfig, learning_rate: float) -> "OptimizerSettings":
        """What all three parts of a training run share, with the learning rate of one."""
        return cls(
            learning_rate,
            config.warmup_steps,
            config.decay,
            config.clip_norm,
            config.weight_decay,
            config.optimizer_state,
        )

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 <= `step` < `steps`."""
        warmup_steps = min(self.warmup_steps, steps // 2)
        if step < warmup_steps:
            start = self.learning_rate / warmup_steps
            return start + (self.learning_rate - start) * step / warmup_steps
        if self.decay == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


@functools.lru_cache(maxsize=2)
def make_optimizer(
    clip_norm: float,
    weight_decay: float,
    multipliers: tuple[tuple[str, float], ...],
    packing: Packing,
    state: str = "float32",
) -> optax.GradientTransformationExtraArgs:
    """AdamW (betas 0.9, 0.999, eps 1e-8) with clipping by the global norm and per-parameter rates.

    It is of packed parameters.
    Its `update` takes `learning_rate`, a traced scalar, `finite`, traced, without which its state does not change, and
    `key`, which rounds the moments where they are bfloat16.
    Equal arguments give the same object: runs that differ in rate or length share a compiled step.

    Args:
        multipliers: (name, multiplier) of every parameter.
        state: "float32", "bfloat16" or "factored", which is Adafactor's second moment (Shazeer and Stern,
            arXiv 1804.04235) below a first moment in bfloat16; packed parameters count as one tensor where it limits
            an update's root mean square.
    """
    rates = packing.rates(dict(multipliers))

    def init(params):
        return ()

    def clip(updates, state, params=None, **_):
        # One factor for all: optax.clip_by_global_norm chooses number by number and divides first.
        factor = jnp.minimum(1.0, clip_norm / optax.tree.norm(updates))
        return optax.tree.scale(factor, updates), state

    def scale(updates, state, params=None, *, learning_rate, **_):
        return {name: -learning_rate * rates[name] * update for name, update in updates.items()}, state

    return optax.chain(
        optax.GradientTransformationExtraArgs(init, clip),
        _moments(state),
        optax.add_decayed_weights(weight_decay),
        optax.GradientTransformationExtraArgs(init, scale),
    )


def _moments(state: str) -> optax.GradientTransformationExtraArgs:
    if state != "factored":
        return scale_by_adam(B1, B2, EPSILON, jnp.dtype(state))
    factored = optax.chain(
        optax.scale_by_factored_rms(
            factored=True, decay_rate=0.8, step_offset=0, min_dim_size_to_factor=128, epsilon=1e-30
        ),
        # As in Adafactor: an update's root mean square is at most 1.
        optax.clip_by_block_rms(1.0),
        optax.ema(B1, debias=True, accumulator_dtype=jnp.bfloat16),
    )

    def update(updates, state, params=None, *, finite, **_):
        updates, new = factored.update(updates, state, params)
        return updates, jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)

    return optax.GradientTransformationExtraArgs(factored.init, update)


def moving_average(ema: dict, trained: dict, decay: jax.Array) -> dict:
    """The exponential moving average of the parameters, after one more step; `decay` as `ema_decay_at` gives it."""
    return {name: decay * mean + (1 - decay) * trained[name] for name, mean in ema.items()}


def ema_decay_at(decay: float, step: int) -> float:
    """`decay`, less in a run's first steps, so that the start is soon forgotten: (1 + t) / (10 + t) at most."""
    return min(decay, (1 + step) / (10 + step))
