"""AdamW and its learning rate over a run."""

import functools
import math
from dataclasses import dataclass

import optax

from svp_jax.training.config import TrainConfig


@dataclass(frozen=True)
class OptimizerSettings:
    """How a run optimizes, but for its number of steps.

    Attributes:
        learning_rate: the peak; multiplied by each parameter's own multiplier.
        warmup_steps: of linear warm-up, at most half of the run.
        decay: "constant" or "cosine" (to 0 at the run's end).
        clip_norm: largest global norm of the gradients.
        weight_decay: of AdamW, decoupled.
    """

    learning_rate: float
    warmup_steps: int
    decay: str
    clip_norm: float
    weight_decay: float

    @classmethod
    def of(cls, config: TrainConfig, learning_rate: float) -> "OptimizerSettings":
        """What all three parts of a training run share, with the learning rate of one."""
        return cls(learning_rate, config.warmup_steps, config.decay, config.clip_norm, config.weight_decay)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 <= `step` < `steps`."""
        warmup_steps = min(self.warmup_steps, steps // 2)
        if step < warmup_steps:
            start = self.learning_rate / warmup_steps
            return start + (self.learning_rate - start) * step / warmup_steps
        if self.decay == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


@functools.lru_cache(maxsize=1)
def make_optimizer(
    clip_norm: float, weight_decay: float, multipliers: tuple[tuple[str, float], ...]
) -> optax.GradientTransformationExtraArgs:
    """AdamW (betas 0.9, 0.999, eps 1e-8) with clipping by the global norm and per-parameter rates.

    Its `update` takes `learning_rate`, a traced scalar, and equal arguments give the same object: runs that differ in
    rate or length share a compiled step.

    Args:
        multipliers: (name, multiplier) of every parameter.
    """
    rates = dict(multipliers)

    def init(params):
        return ()

    def scale(updates, state, params=None, *, learning_rate, **_):
        return {name: -learning_rate * rates[name] * update for name, update in updates.items()}, state

    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(weight_decay),
        optax.GradientTransformationExtraArgs(init, scale),
    )
