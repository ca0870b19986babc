"""One stage of a render: its ControlNet, UNet and VAE as one program over a chunk of frames."""

from functools import partial

import jax
import numpy as np
from flax import nnx

from svp_jax.diffusion import Carry, Schedule, TemporalWeights, guide, sample_sequence
from svp_jax.models.controlnet import controlled
from svp_jax.models.vae import to_uint8


@partial(jax.jit, static_argnames=("networks",), donate_argnames=("noise", "carry"))
def sample_chunk(
    networks: nnx.GraphDef,
    parameters: nnx.State,
    schedule: Schedule,
    text: jax.Array,
    condition: jax.Array,
    noise: jax.Array,
    starts: jax.Array,
    temporal: TemporalWeights,
    strength: jax.Array,
    guidance: jax.Array,
    key: jax.Array,
    carry: Carry,
) -> tuple[jax.Array, jax.Array, Carry]:
    """Denoises and decodes F frames. Compiled once for each architecture, shape and number of steps.

    Args:
        networks, parameters: `nnx.split((controlnet, unet, vae))`.
        schedule: the denoising steps.
        text: text features [1, T, D]; with guidance [2, T, D], the unconditional ones first.
        condition: uint8 [F, H, W, C].
        noise: float32 [F, 1, h, w, c]; given away.
        starts: bool [F], the frames that do not look back.
        temporal: weights of the temporal step.
        strength: factor of the ControlNet's residuals.
        guidance: scale of the guidance; without effect on one row of text.
        key: noise of a schedule with eta > 0.
        carry: what the call before returned, or `Carry.empty`; given away.

    Returns:
        latents float32 [F, 1, h, w, c] (scaled), pictures uint8 [F, H, W, 3], the carry for the next chunk.
    """
    controlnet, unet, vae = nnx.merge(networks, parameters)

    def predict(latent, timestep, condition):
        # Both halves of a guided batch get the same control, as in the original ControlNet.
        return controlled(unet, controlnet, latent, timestep, text, condition, strength)

    if text.shape[0] == 2:
        predict = guide(predict, guidance)
    latents, carry = sample_sequence(predict, schedule, noise, condition, temporal, carry, starts, key)

    def picture(latent):
        return to_uint8(vae.decode(latent / vae.config.scaling_factor)[0])

    # One frame at a time: decoding is what needs the most memory.
    return latents, jax.lax.map(picture, latents), carry


class StageSampler:
    """A stage ready to run. Called with chunk after chunk in order, it hands the last latent on by itself.

    Args:
        networks: (controlnet, unet, vae).
        text: text features [1, T, D], or [2, T, D] (unconditional, conditional) for guidance.
        schedule, temporal, strength, guidance: as in `sample_chunk`.
        length: frames of a chunk; a shorter one is filled up, so that nothing compiles again.
        seed: seed of all noise.
        noise_per_frame: noise by (seed, frame), not the same for all frames.
    """

    def __init__(
        self,
        networks: tuple[nnx.Module, nnx.Module, nnx.Module],
        text: jax.Array,
        schedule: Schedule,
        temporal: TemporalWeights,
        *,
        length: int,
        strength: float = 1.0,
        guidance: float = 1.0,
        seed: int = 0,
        noise_per_frame: bool = False,
    ):
        self.networks, self.parameters = nnx.split(networks)
        self.text, self.schedule, self.temporal, self.length = text, schedule, temporal, length
        self.strength, self.guidance = np.float32(strength), np.float32(guidance)
        self.start_key, self.step_key = jax.random.split(jax.random.key(seed))
        self.noise_per_frame = noise_per_frame
        self.channels, self.factor = networks[1].config.in_channels, networks[2].config.factor
        self.carry, self.ended = None, False

    def __call__(self, condition: np.ndarray, frames: np.ndarray, starts: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """The next chunk of n <= length frames; one with n < length is the last.

        Args:
            condition: uint8 [n, H, W, C].
            frames: int [n], the driver's frame numbers (for the noise).
            starts: bool [n], the frames that do not look back.

        Returns:
            latents float32 [n, h, w, c] (scaled) and pictures uint8 [n, H, W, 3].
        """
        count = len(condition)
        if not 1 <= count <= self.length:
            raise ValueError(f"condition has {count} frames, allowed are 1 to {self.length}")
        if self.ended:
            # What was filled up has gone through the carry: it is not the last frame's latent any more.
            raise ValueError(f"condition comes after a chunk of less than {self.length} frames, which is the last")
        self.ended = count < self.length
        fill = np.minimum(np.arange(self.length), count - 1)
        shape = (1, condition.shape[1] // self.factor, condition.shape[2] // self.factor, self.channels)
        if self.carry is None:
            self.carry = jax.device_put(Carry.empty(shape))
        latents, pictures, self.carry = sample_chunk(
            self.networks,
            self.parameters,
            self.schedule,
            self.text,
            condition[fill],
            start_noise(self.start_key, frames[fill] if self.noise_per_frame else np.zeros_like(fill), shape),
            starts[fill],
            self.temporal,
            self.strength,
            self.guidance,
            self.step_key,
            self.carry,
        )
        return latents[:count, 0], pictures[:count]


@partial(jax.jit, static_argnames=("shape",))
def start_noise(key: jax.Array, numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise [F, *shape], one draw for each of `numbers` [F]: equal numbers, equal noise."""
    return jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), shape))(numbers)
