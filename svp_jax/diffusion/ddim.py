"""One DDIM step (Song et al., arXiv 2010.02502), plain and with the previous frame mixed in."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.diffusion.schedule import Schedule


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("current", "previous", "noise", "tau", "tau_end"),
    meta_fields=(),
)
@dataclass(frozen=True)
class TemporalWeights:
    """How a frame takes over the previous frame's final latent. (1, 0, 1) is plain DDIM.

    `tau` is a fraction of the schedule: 0 is the first, noisiest step, 1 the last one, and the mixing
    happens at step round(tau * (num_steps - 1)). With `tau_end` it happens at all steps from there to
    round(tau_end * (num_steps - 1)). That tau is a fraction, and the range, are our choices; the source text
    leaves them open.
    """

    current: float | jax.Array  # w_c: weighs the predicted clean latent of this frame
    previous: float | jax.Array  # w_p: weighs the final latent of the previous frame
    noise: float | jax.Array  # w_n: weighs the noise term
    tau: float | jax.Array  # in [0, 1]
    tau_end: float | jax.Array | None = None  # in [tau, 1]; None: tau, so one step

    def __post_init__(self):
        if self.tau_end is None:
            object.__setattr__(self, "tau_end", self.tau)
        for name in ("current", "previous", "noise", "tau", "tau_end"):
            value = getattr(self, name)
            if isinstance(value, (int, float)):
                # One type for all numbers, so that jit does not compile again for 1 after 1.0.
                object.__setattr__(self, name, np.float32(value))
                if not np.isfinite(value):
                    raise ValueError(f"{name} is {value}, allowed: finite numbers")
                if name.startswith("tau") and not 0 <= value <= 1:
                    raise ValueError(f"{name} is {value}, allowed: 0 (first denoising step) to 1 (last)")
        known = isinstance(self.tau, np.float32) and isinstance(self.tau_end, np.float32)
        if known and self.tau_end < self.tau:
            raise ValueError(f"tau_end is {self.tau_end}, allowed: tau ({self.tau}) to 1")

    @classmethod
    def plain(cls) -> "TemporalWeights":
        """No mixing: every frame by itself."""
        return cls(1.0, 0.0, 1.0, 0.0)

    def mixed_steps(self, num_steps: int) -> tuple[jax.Array, jax.Array]:
        """The first and the last step (0 = noisiest) that differ from plain DDIM; `num_steps` both where none does."""
        changes = (self.current != 1) | (self.previous != 0) | (self.noise != 1)
        first, last = (jnp.round(tau * (num_steps - 1)).astype(jnp.int32) for tau in (self.tau, self.tau_end))
        return jnp.where(changes, first, num_steps), jnp.where(changes, last, num_steps)


def predicted_clean_and_noise(step: Schedule, latent: jax.Array, output: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x0, epsilon) that the network's `output` at `latent` stands for; `step` is one slice of a Schedule."""
    if step.prediction_type == "epsilon":
        return (latent - step.noise * output) / step.signal, output
    return step.signal * latent - step.noise * output, step.signal * output + step.noise * latent


def ddim_step(step: Schedule, latent: jax.Array, output: jax.Array, fresh: jax.Array | None = None) -> jax.Array:
    """The latent one step cleaner.

    Args:
        step: one slice of a Schedule (scalars).
        latent: x_t, float32 of any shape.
        output: the network's output for it, of the same shape (epsilon or v, by `step.prediction_type`).
        fresh: standard normal noise of that shape, for eta > 0.
    """
    clean, noise = predicted_clean_and_noise(step, latent, output)
    result = step.signal_prev * clean + step.direction * noise
    return result if fresh is None else result + step.sigma * fresh


def temporal_step(
    step: Schedule,
    latent: jax.Array,
    output: jax.Array,
    previous: jax.Array,
    weights: TemporalWeights,
    fresh: jax.Array | None = None,
) -> jax.Array:
    """The DDIM step that mixes in `previous`, the previous frame's final latent.

    x_prev = sqrt(a_prev) (w_c x0 + w_p previous) + w_n (sqrt(1 - a_prev - s^2) eps + s z)
    """
    clean, noise = predicted_clean_and_noise(step, latent, output)
    rest = step.direction * noise
    if fresh is not None:
        rest = rest + step.sigma * fresh
    return step.signal_prev * (weights.current * clean + weights.previous * previous) + weights.noise * rest
