"""What a stage makes of a few held-out frames while it trains: a picture, and how well it follows the condition."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.capture.images import write_sheet
from svp_jax.diffusion import Schedule, TemporalWeights, sample_sequence
from svp_jax.models.controlnet import controlled
from svp_jax.models.vae import to_uint8
from svp_jax.training.data.held_out import PREVIEW_FRAMES
from svp_jax.training.data.views import Views
from svp_jax.training.watching.following import Scores, following


class StagePreview:
    """Samples some held-out frames, always the same and from the same noise.

    Args:
        folder: where the pictures go.
        views: as many frames as `held_out.scored_frames` gives.
        text: features [T, D] of the prompt.
    """

    def __init__(
        self,
        folder: Path,
        views: Views,
        stage: str,
        vae: nnx.Module,
        schedule: Schedule,
        text: np.ndarray,
        window: int,
        seed: int,
    ):
        self.folder = folder
        numbers = np.arange(len(views))
        self.target = views.targets(stage, numbers)
        self.condition = views.condition(stage, numbers, window)
        self.vae, self.schedule = vae, schedule
        self.text = np.broadcast_to(text, (PREVIEW_FRAMES, *text.shape))
        self.key = jax.random.key(seed)
        self._capture, self._stage = views.captures[0], stage

    @functools.cached_property
    def score(self) -> Callable[[np.ndarray], Scores]:
        """Of images; only the process that looks loads the face tracker for it."""
        return following(self._capture, self._stage, self.target)

    def path(self, step: int) -> Path:
        """Of the picture after `step` finished steps."""
        return self.folder / f"preview_{step:06d}.png"

    def __call__(self, step: int, models: dict[str, nnx.Module]) -> Scores:
        """Writes the picture (target, condition and sample of some of the frames) and returns the scores of all."""
        graph, parameters = nnx.split((models["controlnet"], models["unet"], self.vae))
        # In parts of one size: that is compiled once, and more frames need no more memory.
        parts = np.split(self.condition, len(self.condition) // PREVIEW_FRAMES)
        samples = [_sample(graph, parameters, self.schedule, self.text, part, self.key) for part in parts]
        images = np.concatenate([np.asarray(part) for part in samples])
        self.folder.mkdir(parents=True, exist_ok=True)
        shown = slice(None, None, len(images) // PREVIEW_FRAMES)
        # The first three channels of a condition are a picture in both stages.
        write_sheet(self.path(step), (rows[shown] for rows in (self.target, self.condition[..., :3], images)))
        return self.score(images)


@functools.partial(jax.jit, static_argnames="graph")
def _sample(graph, parameters, schedule, text, condition, key) -> jax.Array:
    """Independent frames uint8 [n, S, S, 3] by plain DDIM, all from the same noise."""
    controlnet, unet, vae = nnx.merge(graph, parameters)

    def predict(latent, timestep, _):
        return controlled(unet, controlnet, latent, timestep, text, condition)

    count, height, width = condition.shape[:3]
    noise = jax.random.normal(
        key, (1, 1, height // vae.config.factor, width // vae.config.factor, unet.config.in_channels)
    )
    noise = jnp.broadcast_to(noise, (1, count, *noise.shape[2:]))
    latents, _ = sample_sequence(predict, schedule, noise, None, TemporalWeights.plain())
    return to_uint8(vae.decode(latents[0] / vae.config.scaling_factor))
