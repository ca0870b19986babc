"""One stage of a render: its ControlNet, UNet and VAE as one program over a chunk of frames of several sequences."""

import contextlib
import threading
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from svp_jax.diffusion import Carry, Reuse, Schedule, TemporalWeights, sample_sequence
from svp_jax.models.controlnet import hint_of
from svp_jax.models.vae import to_uint8
from svp_jax.rendering.steering import Steering, predictor

AXIS = "devices"
# Of arrays with an axis of sequences after one of frames, of those with sequences first, and of what is alike for all.
FRAMES, SEQUENCES, ALIKE = PartitionSpec(None, AXIS), PartitionSpec(AXIS), PartitionSpec()


class Chunk(NamedTuple):
    """F frames of B sequences, as arrays for the devices."""

    condition: jax.Array  # uint8 [F, B, H, W, C]
    text: jax.Array  # float32 [F, B, T, D]
    starts: jax.Array  # bool [F, B], the frames that do not look back
    active: jax.Array  # bool [F, B], false behind a sequence's last frame


class Shortcuts(NamedTuple):
    """What is left out to be faster; None, as `sample_sequence` has it."""

    begin: np.int32 | None = None
    anew: np.ndarray | None = None  # bool [num_steps], as in `Reuse`


NO_SHORTCUTS = Shortcuts()
# Both stages have threads of their own, but XLA's CPU backend (jaxlib 0.10.2) gives wrong numbers where another program
# of the process runs at once: with two sequences, decoded pictures were wrong (docs/notes.md).
_ONE_AT_A_TIME = threading.Lock()


@partial(jax.jit, static_argnames=("networks", "batch", "mesh"), donate_argnames=("noise", "carry"))
def sample_chunk(
    networks: nnx.GraphDef,
    parameters: nnx.State,
    schedule: Schedule,
    temporal: TemporalWeights,
    shortcuts: Shortcuts,
    negative: jax.Array | None,
    key: jax.Array,
    steering: Steering,
    chunk: Chunk,
    noise: jax.Array,
    carry: Carry,
    batch: int,
    mesh: Mesh,
) -> tuple[jax.Array, jax.Array, jax.Array, Carry]:
    """Denoises and decodes F frames of B sequences, on each device of `mesh` an equal part of the sequences.

    Compiled once for each architecture, shape and number of steps.

    Args:
        networks, parameters: `nnx.split((controlnet, unet, vae))`.
        schedule: the denoising steps.
        temporal: weights of the temporal step.
        negative: text features [T, D] for guidance; None goes without.
        key: noise of a schedule with eta > 0.
        noise: float32 [F, B, h, w, c]; given away.
        carry: what the call before returned, or `Carry.empty`; given away.
        batch: frames that are computed together where they do not depend on each other.

    Returns:
        latents float32 [F, B, h, w, c] (scaled), pictures uint8 [F, B, H, W, 3], whether the numbers that the pictures
        were made of are finite, bool [F, B], and the carry for the next chunk.
    """

    def of_one_device(parameters, schedule, temporal, shortcuts, negative, key, steering, chunk, noise, carry):
        controlnet, unet, vae = nnx.merge(networks, parameters)
        predict, again = predictor(controlnet, unet, steering, negative)
        reuse = None if shortcuts.anew is None else Reuse(again, shortcuts.anew)

        def output(latent, timestep, condition):
            return predict(latent, timestep, condition)[0]

        # One frame at a time: what works at the pictures' size needs the most memory.
        hints = jax.lax.map(lambda pictures: hint_of(controlnet, pictures), chunk.condition)
        latents, carry = sample_sequence(
            predict if reuse else output,
            schedule,
            noise,
            (hints, chunk.text),
            temporal,
            carry,
            chunk.starts,
            key,
            active=chunk.active,
            begin=shortcuts.begin,
            reuse=reuse,
            batch=batch,
        )

        def pictures(frame):
            latent, active = frame
            shape = (*latent.shape[:1], *chunk.condition.shape[2:4], 3)

            def decoded():
                image = vae.decode(latent / vae.config.scaling_factor)
                return to_uint8(image), jnp.isfinite(image).all(axis=(1, 2, 3))

            return jax.lax.cond(active.any(), decoded, lambda: (jnp.zeros(shape, jnp.uint8), jnp.ones(shape[:1], bool)))

        return latents, *jax.lax.map(pictures, (latents, chunk.active)), carry

    steered = Steering(SEQUENCES, ALIKE, ALIKE, ALIKE)
    return jax.shard_map(
        of_one_device,
        mesh=mesh,
        in_specs=(ALIKE, ALIKE, ALIKE, ALIKE, ALIKE, ALIKE, steered, FRAMES, FRAMES, SEQUENCES),
        out_specs=(FRAMES, FRAMES, FRAMES, SEQUENCES),
        check_vma=False,
    )(parameters, schedule, temporal, shortcuts, negative, key, steering, chunk, noise, carry)


class Frames(NamedTuple):
    """n frames of one sequence."""

    condition: np.ndarray  # uint8 [n, H, W, C]
    numbers: np.ndarray  # int [n], the driver's frame numbers (for the noise)
    starts: np.ndarray  # bool [n], the frames that do not look back
    text: np.ndarray  # float32 [n, T, D]


class StageSampler:
    """A stage ready to run. Called with chunk after chunk in order, it hands the last latents on by itself.

    To go on after finished frames, call `resume` first.

    Args:
        networks: (controlnet, unet, vae).
        schedule, temporal, negative, shortcuts, batch: as in `sample_chunk`.
        steering: its strength [B] says how many sequences there are.
        length: frames of a chunk of each sequence; fewer are filled up, so that nothing compiles again.
        devices: share the sequences among them; the first one where there are fewer sequences.
        seed: seed of all noise.
        noise_per_frame: noise by (seed, frame), not the same for all frames.
    """

    def __init__(
        self,
        networks: tuple[nnx.Module, nnx.Module, nnx.Module],
        schedule: Schedule,
        temporal: TemporalWeights,
        steering: Steering,
        *,
        length: int,
        negative: np.ndarray | None = None,
        shortcuts: Shortcuts = NO_SHORTCUTS,
        devices: Sequence[jax.Device] | None = None,
        seed: int = 0,
        noise_per_frame: bool = False,
        batch: int = 1,
    ):
        self.count = len(steering.strength)
        devices = (jax.devices() if devices is None else devices)[: self.count]
        self.mesh = Mesh(np.array(devices), (AXIS,))
        # Sequences without any frame make the devices' parts equal.
        self.rows = -(-self.count // len(devices)) * len(devices)
        self.networks, parameters = nnx.split(networks)
        self.parameters = jax.device_put(parameters, self._sharding(ALIKE))
        strength = np.resize(np.asarray(steering.strength, np.float32), self.rows)
        self.steering = steering._replace(strength=strength)
        self.schedule, self.temporal, self.shortcuts, self.negative = schedule, temporal, shortcuts, negative
        self.start_key, self.step_key = jax.random.split(jax.random.key(seed))
        self.noise_per_frame, self.length, self.batch = noise_per_frame, length, batch
        self.channels, self.factor = networks[1].config.in_channels, networks[2].config.factor
        self.carry = None
        self.resume(None, np.zeros(self.count, bool), np.zeros(self.count, int))

    def resume(self, latents: np.ndarray | None, valid: np.ndarray, frames: np.ndarray) -> None:
        """Goes on after a frame of each sequence.

        Args:
            latents: float32 [B, h, w, c] of these frames; None: there are none.
            valid: bool [B], whether there is one.
            frames: int [B], how many came before in all.
        """
        self.before = latents, np.resize(valid, self.rows), np.resize(frames, self.rows).astype(np.int32)

    def __call__(self, parts: Sequence[Frames]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The next n <= length frames of each sequence; some may have none.

        Returns:
            for each sequence latents float32 [n, h, w, c] (scaled) and pictures uint8 [n, H, W, 3].

        Raises:
            FloatingPointError: numbers are not finite; its argument is the frame's number.
        """
        with _ONE_AT_A_TIME if self.mesh.devices.flat[0].platform == "cpu" else contextlib.nullcontext():
            return self._computed(parts)

    def _computed(self, parts: Sequence[Frames]) -> list[tuple[np.ndarray, np.ndarray]]:
        """As the call; on the host, so that nothing is left to compute."""
        counts = [len(part.numbers) for part in parts]
        if len(parts) != self.count or max(counts) > self.length:
            raise ValueError(f"there are chunks of {counts} frames, allowed are {self.count} of up to {self.length}")
        if not max(counts):
            return [(part.condition[..., :0], part.condition[..., :3]) for part in parts]
        filled = self._filled(parts, counts)
        shape = (self.rows, *(side // self.factor for side in filled.condition.shape[2:4]), self.channels)
        numbers = np.zeros(filled.starts.shape, int)
        if self.noise_per_frame:
            for row, part in enumerate(parts):
                numbers[: counts[row], row] = part.numbers
        noise = start_noise(self.start_key, numbers, shape[1:])
        if self.carry is None:
            latents, valid, frames = self.before
            latents = np.zeros(shape, np.float32) if latents is None else np.resize(latents, shape)
            self.carry = self._place(Carry(latents, valid, frames), SEQUENCES)
        latents, pictures, finite, self.carry = sample_chunk(
            self.networks,
            self.parameters,
            self.schedule,
            self.temporal,
            self.shortcuts,
            self.negative,
            self.step_key,
            self.steering,
            self._place(filled, FRAMES),
            self._place(noise, FRAMES),
            self.carry,
            self.batch,
            self.mesh,
        )
        latents, pictures, finite = np.asarray(latents), np.asarray(pictures), np.asarray(finite)
        for row, part in enumerate(parts):
            broken = ~finite[: counts[row], row] | ~np.isfinite(latents[: counts[row], row]).all(axis=(1, 2, 3))
            if broken.any():
                raise FloatingPointError(int(part.numbers[broken.argmax()]))
        return [(latents[:count, row], pictures[:count, row]) for row, count in enumerate(counts)]

    def _filled(self, parts: Sequence[Frames], counts: list[int]) -> Chunk:
        """Arrays of `length` frames of `rows` sequences; what there is none of is zero."""
        like = parts[int(np.argmax(counts))]

        def stacked(name: str) -> np.ndarray:
            example = getattr(like, name)
            array = np.zeros((self.length, self.rows, *example.shape[1:]), example.dtype)
            for row, part in enumerate(parts):
                if counts[row]:
                    array[: counts[row], row] = getattr(part, name)
            return array

        active = np.arange(self.length)[:, None] < np.resize([*counts, 0], self.rows)
        active[:, self.count :] = False
        return Chunk(stacked("condition"), stacked("text"), stacked("starts"), active)

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def _place(self, tree, spec: PartitionSpec):
        return jax.device_put(tree, self._sharding(spec))


@partial(jax.jit, static_argnames=("shape",))
def start_noise(key: jax.Array, numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise [*numbers.shape, *shape], one draw for each of `numbers`: equal numbers, equal noise."""
    draw = jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), shape))
    return draw(numbers.reshape(-1)).reshape(*numbers.shape, *shape)
