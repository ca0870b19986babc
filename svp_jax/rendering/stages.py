"""One stage of a render: its ControlNet, UNet and VAE as one program over a chunk of frames."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.diffusion import Carry, Schedule, TemporalWeights, guide, sample_sequence
from svp_jax.models.controlnet import ControlNet, controlled_by_hint, hint_of
from svp_jax.models.unet import UNet
from svp_jax.models.vae import to_uint8


@partial(jax.jit, static_argnames=("networks", "batch"), donate_argnames=("noise", "carry"))
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
    batch: int,
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
        batch: frames that are computed together where they do not depend on each other.

    Returns:
        latents float32 [F, 1, h, w, c] (scaled), pictures uint8 [F, H, W, 3], the carry for the next chunk.
    """
    controlnet, unet, vae = nnx.merge(networks, parameters)

    predict = steered(controlnet, unet, text, strength)
    if text.shape[0] == 2:
        predict = guide(predict, guidance)
    # One picture at a time: what works at its size needs the most memory.
    hints = jax.lax.map(lambda picture: hint_of(controlnet, picture[None])[0], condition)
    latents, carry = sample_sequence(predict, schedule, noise, hints, temporal, carry, starts, key, batch)

    def picture(latent):
        return to_uint8(vae.decode(latent / vae.config.scaling_factor)[0])

    return latents, jax.lax.map(picture, latents), carry


def steered(controlnet: ControlNet, unet: UNet, text: jax.Array, strength: jax.Array) -> Callable:
    """A `predict` for `sample_sequence`: (latent [B, h, w, c], timestep, hint [h, w, C0] of one frame) -> [B, h, w, c].

    Args:
        text: text features [B, T, D].
    """
    graph, parameters = nnx.split((controlnet, unet))

    # What is traced outside comes as arguments: custom_vmap cannot close over it.
    @jax.custom_batching.custom_vmap
    def output(parameters, text, strength, latent, timestep, hint):
        controlnet, unet = nnx.merge(graph, parameters)
        # Both halves of a guided batch get the same control, as in the original ControlNet.
        return controlled_by_hint(unet, controlnet, latent, timestep, text, hint[None], strength)

    @output.def_vmap
    def frames_as_one_batch(count, mapped, parameters, text, strength, latents, timestep, hints):
        """Mapped over frames the networks' own batch grows; with an axis of its own attention would be slow."""
        controlnet, unet = nnx.merge(graph, parameters)
        size = latents.shape[1]
        outputs = controlled_by_hint(
            unet,
            controlnet,
            latents.reshape(count * size, *latents.shape[2:]),
            timestep,
            jnp.tile(text, (count, 1, 1)),
            jnp.repeat(hints, size, axis=0),
            strength,
        )
        return outputs.reshape(latents.shape), True

    return partial(output, parameters, text, strength)


class StageSampler:
    """A stage ready to run. Called with chunk after chunk in order, it hands the last latent on by itself.

    To go on after `frames` finished ones, give `begin` the last one's latent first.

    Args:
        networks: (controlnet, unet, vae).
        text: text features [1, T, D], or [2, T, D] (unconditional, conditional) for guidance.
        schedule, temporal, strength, guidance: as in `sample_chunk`.
        length: frames of a chunk; a shorter one is filled up, so that nothing compiles again.
        seed: seed of all noise.
        noise_per_frame: noise by (seed, frame), not the same for all frames.
        batch: as in `sample_chunk`.
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
        batch: int = 1,
    ):
        self.networks, self.parameters = nnx.split(networks)
        self.text, self.schedule, self.temporal, self.length = text, schedule, temporal, length
        self.strength, self.guidance = np.float32(strength), np.float32(guidance)
        self.start_key, self.step_key = jax.random.split(jax.random.key(seed))
        self.noise_per_frame, self.batch = noise_per_frame, batch
        self.channels, self.factor = networks[1].config.in_channels, networks[2].config.factor
        self.carry, self.ended = None, False

    def begin(self, latent: np.ndarray, frames: int) -> None:
        """Goes on after a frame whose latent float32 [1, h, w, c] is given, with `frames` finished ones in all."""
        self.carry = jax.device_put(Carry(np.asarray(latent, np.float32), np.bool_(True), np.int32(frames)))

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
            self.batch,
        )
        return latents[:count, 0], pictures[:count]


@partial(jax.jit, static_argnames=("shape",))
def start_noise(key: jax.Array, numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise [F, *shape], one draw for each of `numbers` [F]: equal numbers, equal noise."""
    return jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), shape))(numbers)
