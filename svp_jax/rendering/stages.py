"""The two stages of a render, made of an avatar's networks and the settings."""

from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from svp_jax.diffusion import Schedule, TemporalWeights
from svp_jax.errors import UserError
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.progress import Progress
from svp_jax.rendering.sequences import Sequence, Track, chunk_length
from svp_jax.rendering.stage_sampler import Shortcuts, StageSampler
from svp_jax.rendering.steering import Steering, computed_anew, window
from svp_jax.weights.avatar import Avatar
from svp_jax.weights.base import encode_prompts


@dataclass(frozen=True)
class Stages:
    """What makes the pictures.

    Attributes:
        outlines: of all tracks; None takes the drivers' own maps.
        details: of all sequences; None makes maps alone.
        still: as in `Still`, of Stage I.
        text: features [T, D] of Stage I, which draws this person's outlines whatever the text of Stage II says.
        window: frames of Stage I's condition.
        labels: those of the maps.
        length: frames of a chunk.
    """

    outlines: StageSampler | None
    details: StageSampler | None
    still: float
    text: np.ndarray
    window: int
    labels: list[str]
    length: int

    def resume(self, tracks: list[Track], sequences: list[Sequence], progress: Progress) -> None:
        """Goes on where `progress` says."""
        for name, sampler, rows in (
            ("outlines", self.outlines, tracks),
            ("details", self.details, [tracks[each.track] for each in sequences]),
        ):
            if sampler is not None:
                done = np.array([min(progress.done, len(track.indices)) for track in rows])
                first = np.array([track.first for track in rows])
                if name == "outlines":
                    done = progress.drawn.get("count", done)
                sampler.resume(progress.latents.get(name), done > 0, first + done)


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
    length = chunk_length(tracks, options.chunk, options.batch)
    common = dict(
        length=length,
        seed=options.seed,
        noise_per_frame=options.noise_per_frame,
        batch=options.batch,
    )

    def shortcuts(steering: Steering) -> Shortcuts:
        anew = computed_anew(schedule, options.reuse, steering.control, steering.guided)
        return Shortcuts(np.int32(begin) if begin else None, anew if options.reuse > 1 else None)

    always = window(schedule, 0, 1)
    outlines = details = None
    if options.maps == "stage1":
        stage = avatar.stages["outlines"]
        strengths = np.full(len(tracks), options.outlines_strength, np.float32)
        steering = Steering(strengths, always, np.float32(1), always)
        outlines = StageSampler(
            (stage.controlnet, stage.unet, avatar.vae),
            schedule,
            temporal,
            steering,
            shortcuts=shortcuts(steering),
            **common,
        )
    if options.stage == "both":
        stage = avatar.stages["details"]
        steering = Steering(
            np.array([each.strength for each in sequences], np.float32),
            _window(schedule, options, "control"),
            np.float32(options.guidance),
            _window(schedule, options, "guidance"),
        )
        negative = None
        if options.guidance > 1:
            negative = np.asarray(encode_prompts(avatar.base, [options.negative_prompt])[0])
        details = StageSampler(
            (stage.controlnet, *_mixed(avatar, options)),
            schedule,
            temporal,
            steering,
            shortcuts=shortcuts(steering),
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
        length,
    )


def schedule_of(avatar: Avatar, options: RenderOptions) -> Schedule:
    """The denoising steps of both stages."""
    try:
        return Schedule.from_config(avatar.base.scheduler_config, options.steps, options.eta)
    except UserError as error:
        raise UserError(f"--steps: {error}") from None


def _window(schedule: Schedule, options: RenderOptions, name: str) -> np.ndarray:
    """Of the options NAME_start and NAME_end; UserError where no step lies between them."""
    start, end = getattr(options, f"{name}_start"), getattr(options, f"{name}_end")
    found = window(schedule, start, end)
    if found[0] < found[1]:
        raise UserError(
            f"--{name}-start {start} and --{name}-end {end}: none of the {schedule.num_steps} steps lies between; set "
            "them further apart"
        )
    return found


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
