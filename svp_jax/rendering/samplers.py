"""An avatar's networks and the settings of a render, made into what samples its frames."""

import jax
import numpy as np
from flax import nnx

from svp_jax.diffusion import Schedule, TemporalWeights
from svp_jax.errors import UserError
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.pipeline import Stages
from svp_jax.rendering.sequences import Sequence, Track, chunk_length
from svp_jax.rendering.stages import Shortcuts, StageSampler
from svp_jax.rendering.steering import Steering, window
from svp_jax.weights.avatar import Avatar
from svp_jax.weights.base import encode_prompts


def build_stages(
    avatar: Avatar, tracks: list[Track], sequences: list[Sequence], options: RenderOptions, temporal: TemporalWeights
) -> Stages:
    """The samplers of the stages that `options` ask for.

    Raises:
        UserError: the schedule has no such number of steps, or a text is too long.
    """
    schedule = schedule_of(avatar, options)
    # One step at least is left.
    begin = min(round(options.begin * schedule.num_steps), schedule.num_steps - 1)
    common = dict(
        length=chunk_length(tracks, options.chunk),
        shortcuts=Shortcuts(
            begin=np.int32(begin) if begin else None, every=np.int32(options.reuse) if options.reuse > 1 else None
        ),
        seed=options.seed,
        noise_per_frame=options.noise_per_frame,
        batch=options.batch,
    )
    always = window(schedule, 0, 1)
    outlines = details = None
    if options.maps == "stage1":
        stage = avatar.stages["outlines"]
        strengths = np.full(len(tracks), options.outlines_strength, np.float32)
        steering = Steering(strengths, always, np.float32(1), always)
        outlines = StageSampler((stage.controlnet, stage.unet, avatar.vae), schedule, temporal, steering, **common)
    if options.stage == "both":
        stage = avatar.stages["details"]
        steering = Steering(
            np.array([each.strength for each in sequences], np.float32),
            window(schedule, options.control_start, options.control_end),
            np.float32(options.guidance),
            window(schedule, options.guidance_start, options.guidance_end),
        )
        negative = None
        if options.guidance > 1:
            negative = np.asarray(encode_prompts(avatar.base, [options.negative_prompt])[0])
        details = StageSampler(
            (stage.controlnet, *_mixed(avatar, options)),
            schedule,
            temporal,
            steering,
            negative=negative,
            **common,
        )
    return Stages(
        outlines,
        details,
        options.still,
        np.asarray(encode_prompts(avatar.base, [avatar.manifest["prompt"]])[0]),
        avatar.manifest["condition"]["outlines"]["window"],
        avatar.manifest["labels"],
    )


def schedule_of(avatar: Avatar, options: RenderOptions) -> Schedule:
    """The denoising steps of both stages."""
    try:
        return Schedule.from_config(avatar.base.scheduler_config, options.steps, options.eta)
    except UserError as error:
        raise UserError(f"--steps: {error}") from None


def _mixed(avatar: Avatar, options: RenderOptions) -> tuple[nnx.Module, nnx.Module]:
    """Stage II's UNet and the VAE: the avatar's, the base's, or weights between the two.

    The base's UNet makes the base's latents, of any face: a decoder tuned on the person would not fit.
    """
    share, stage = options.tuned_share, avatar.stages["details"]
    if share == 1:
        return stage.unet, avatar.vae
    if share == 0:
        return avatar.base.unet, avatar.base.vae
    return _between(avatar.base.unet, stage.unet, share), _between(avatar.base.vae, avatar.vae, share)


def _between(base: nnx.Module, tuned: nnx.Module, share: float) -> nnx.Module:
    """A network with the weights (1 - share) base + share tuned."""
    graph, weights = nnx.split(base)
    _, others = nnx.split(tuned)
    return nnx.merge(graph, jax.tree.map(lambda a, b: ((1 - share) * a + share * b).astype(a.dtype), weights, others))
