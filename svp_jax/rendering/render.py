"""`svp render`: an avatar and a driver in, the avatar's video out."""

import dataclasses
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from svp_jax.capture.conditions import details_of, outlines_of
from svp_jax.capture.images import read_pngs
from svp_jax.diffusion import Schedule, TemporalWeights
from svp_jax.errors import UserError
from svp_jax.face.labels import colorize, decode
from svp_jax.manifest import (
    PROGRESS,
    RUN,
    check_output,
    content_sha256,
    empty_folder,
    parts,
    read_json,
    read_manifest,
    staged_folder,
    write_manifest,
)
from svp_jax.rendering.ahead import ahead
from svp_jax.rendering.chunks import Plan, plan_frames
from svp_jax.rendering.control import open_driver
from svp_jax.rendering.driver import Driver
from svp_jax.rendering.fit import check_fit, stage_unets
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.progress import Progress
from svp_jax.rendering.stages import StageSampler
from svp_jax.rendering.writer import COMMENT, RenderWriter
from svp_jax.unfinished import changes, check_same_run
from svp_jax.weights.avatar import Avatar, load_avatar
from svp_jax.weights.base import encode_prompts

# Options that say nothing about the result.
_OF_THIS_MACHINE = ("force", "base", "face_model_file")
CONSENT = (
    "note: the text decides whom this video shows. Where it names a real person, have that person's consent, and say "
    "that the video is AI-generated wherever you show it."
)
# Of an unfinished render: only rounding depends on them.
MAY_CHANGE = ("settings.chunk", "settings.batch")


def render(avatar_folder: Path, driver_path: Path, out: Path, options: RenderOptions) -> Path:
    """Renders the avatar as the driver moves (see `control.open_driver`), into the folder `out`; returns it.

    out/
      avatar.mp4        one picture for each frame of the driver's span, its exact frame rate and its sound
      frames/           the same pictures without loss as 000000.png ..., numbered by the driver's frames
      side_by_side.mp4  the driver's frames (of the avatar's own capture: the reference), geometry, parsing map, result
      parsing/          the first stage's maps as 000000.png ..., numbered by the driver's frames
      render.json       settings, seed, frame map, times

    In render.json, `frames` has the driver's frame of each picture of the video, `held` the positions in the
    video that were not rendered (no face) and show the picture before, `shot_starts` the positions where no
    previous frame was mixed in.

    Raises:
        UserError: bad input, named.
    """
    check_output(out, "render", options.force)
    manifest = read_manifest(avatar_folder, "avatar")
    driver = open_driver(Path(avatar_folder), manifest, driver_path, options)
    plan = plan_frames(driver, options.frames)
    check_fit(Path(avatar_folder), manifest, driver, options)
    if options.steps is None:
        options = dataclasses.replace(options, steps=manifest["config"]["preview_steps"])
    temporal = _temporal_settings(manifest, options)
    if options.unet == "base" and options.prompt:
        print(CONSENT, file=sys.stderr)
    run = _run(manifest, driver, plan, options, temporal)
    seconds = Stopwatch()
    with staged_folder(out, "render", options.force, resume=True) as folder, _kept_if_begun(folder):
        if options.force and (folder / RUN).exists() and changes(read_json(folder / RUN), run, MAY_CHANGE):
            empty_folder(folder)
        check_same_run(folder / RUN, run, out, MAY_CHANGE, "add --force to start anew")
        with seconds("load"):
            avatar = load_avatar(avatar_folder, base=options.base, stages=stage_unets(options))
            samplers = _samplers(avatar, plan, options, temporal)
        _render_frames(folder, driver, plan, options.chunk, samplers, avatar.manifest, options.label, seconds)
        body = _manifest(avatar, driver, plan, options, temporal, seconds)
        write_manifest(folder, "render", body | {"files": content_hashes(folder)})
        for name in (RUN, PROGRESS):
            (folder / name).unlink()
    return Path(out)


def _run(manifest: dict, driver: Driver, plan: Plan, options: RenderOptions, temporal: dict[str, float]) -> dict:
    """What decides how the pictures look: an unfinished render goes on with the same."""
    return {
        "avatar": manifest["manifest_sha256"],
        "driver": driver.sha256,
        "frames": [plan.span.start, plan.span.stop],
        "settings": _settings(options),
        "temporal": temporal,
    }


@contextmanager
def _kept_if_begun(folder: Path) -> Iterator[None]:
    """After an error, says how to go on where a chunk is finished, and else leaves nothing."""
    try:
        yield
    except BaseException as error:
        if not (folder / PROGRESS).exists():
            shutil.rmtree(folder, ignore_errors=True)
        elif isinstance(error, UserError):
            done = Progress.read(folder).done
            raise UserError(f"{error}; {done} frames are finished, the same command goes on there") from None
        raise


def _render_frames(
    folder: Path,
    driver: Driver,
    plan: Plan,
    chunk: int,
    samplers: dict[str, StageSampler],
    manifest: dict,
    label: bool,
    seconds: "Stopwatch",
) -> None:
    """Chunk by chunk: conditions and Stage I, conditions and Stage II, files; the three at once, each in its thread.

    Memory does not grow with the video's length. Finished chunks stay in `folder`, and one that was interrupted goes on
    after the last of them; the videos are then made of the pictures again.
    """
    outlines, details = samplers.get("outlines"), samplers.get("details")
    progress = Progress.read(folder)
    if progress.done:
        for name, sampler in samplers.items():
            sampler.begin(progress.latents[name], progress.done)
    window, labels = manifest["condition"]["outlines"]["window"], manifest["labels"]

    def with_maps() -> Iterator[_Chunk]:
        for part in plan.chunks(chunk, progress.done):
            frames, starts, latents = plan.indices[part], plan.starts[part], {}
            with seconds("outlines"):
                if outlines is None:
                    parsing = driver.capture.parsing(frames)
                else:
                    condition = outlines_of(driver, frames, window)
                    maps, latents["outlines"] = _sampled(outlines, "outlines", condition, frames, starts)
                    parsing = np.stack([colorize(decode(image, labels)) for image in maps])
            yield _Chunk(part.stop, frames, starts, parsing, None, latents)

    def with_pictures(chunks: Iterator[_Chunk]) -> Iterator[_Chunk]:
        for part in chunks:
            if details is None:
                yield part
                continue
            with seconds("details"):
                condition = details_of(driver, part.frames, part.parsing)
                pictures, last = _sampled(details, "details", condition, part.frames, part.starts)
            yield dataclasses.replace(part, pictures=pictures, latents=part.latents | {"details": last})

    written = int(plan.indices[progress.done - 1]) + 1 if progress.done else 0
    files = dict(result=bool(details), keep_maps=bool(outlines), label=label, written=written)
    with (
        RenderWriter(folder, driver, plan.span, **files) as writer,
        ahead(with_maps()) as mapped,
        ahead(with_pictures(mapped)) as finished,
        tqdm(total=len(plan.indices), initial=progress.done, desc="render", unit="frame") as bar,
    ):
        for part in plan.chunks(chunk, 0, progress.done):
            frames = plan.indices[part]
            with seconds("write"):
                parsing = read_pngs(folder / "parsing", frames) if outlines else driver.capture.parsing(frames)
                writer.write(frames, parsing, read_pngs(folder / "frames", frames) if details else None)
        for part in finished:
            with seconds("write"):
                writer.write(part.frames, part.parsing, part.pictures)
                Progress(part.stop, part.latents).write(folder)
            bar.update(len(part.frames))
        with seconds("write"):
            writer.finish()


@dataclass(frozen=True)
class _Chunk:
    """Frames on their way from the plan to the files.

    Attributes:
        stop: the number of the plan's frames up to the last of these.
        latents: of the last frame, as in `Progress`.
    """

    stop: int
    frames: np.ndarray
    starts: np.ndarray
    parsing: np.ndarray
    pictures: np.ndarray | None
    latents: dict[str, np.ndarray]


def _sampled(
    sampler: StageSampler, stage: str, condition: np.ndarray, frames: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The stage's pictures uint8 [n, S, S, 3] and the last latent [1, h, w, c]; UserError where it has diverged."""
    latents, pictures = sampler(condition, frames, starts)
    latents = np.asarray(latents)
    broken = ~np.isfinite(latents).all(axis=(1, 2, 3))
    if broken.any():
        raise UserError(
            f"the {stage} stage gives numbers that are not finite at frame {frames[broken.argmax()]} of the driver; "
            "its training may have diverged, or a temporal weight, --guidance or --strength is too large"
        )
    return np.asarray(pictures), latents[-1:]


def _samplers(
    avatar: Avatar, plan: Plan, options: RenderOptions, temporal: dict[str, float]
) -> dict[str, StageSampler]:
    """ "outlines", where its maps are wanted, and "details", where results are."""
    try:
        schedule = Schedule.from_config(avatar.base.scheduler_config, options.steps, options.eta)
    except UserError as error:
        raise UserError(f"--steps: {error}") from None
    common = dict(
        schedule=schedule,
        temporal=TemporalWeights(**temporal),
        length=plan.chunk_length(options.chunk),
        seed=options.seed,
        noise_per_frame=options.noise_per_frame,
        batch=options.batch,
    )
    samplers = {}
    if options.maps == "stage1":
        # Stage I draws this person's outlines whatever the text of Stage II says.
        stage = avatar.stages["outlines"]
        text = encode_prompts(avatar.base, [avatar.manifest["prompt"]])
        samplers["outlines"] = StageSampler((stage.controlnet, stage.unet, avatar.vae), text, **common)
    if options.stage == "both":
        stage = avatar.stages["details"]
        prompts = [_prompt(avatar, options)]
        if options.guidance > 1:
            prompts = [options.negative_prompt, *prompts]
        # The base's UNet makes the base's latents, of any face: a decoder tuned on the person would not fit.
        vae = avatar.base.vae if options.unet == "base" else avatar.vae
        samplers["details"] = StageSampler(
            (stage.controlnet, stage.unet, vae),
            encode_prompts(avatar.base, prompts),
            strength=options.strength,
            guidance=options.guidance,
            **common,
        )
    return samplers


def _prompt(avatar: Avatar, options: RenderOptions) -> str:
    return avatar.manifest["prompt"] if options.prompt is None else options.prompt


def _temporal_settings(manifest: dict, options: RenderOptions) -> dict[str, float]:
    """The avatar's temporal weights, but for those that the options give."""
    given = {name: getattr(options, name) for name in ("current", "previous", "noise", "tau", "tau_end")}
    settings = manifest["temporal"] | {name: value for name, value in given.items() if value is not None}
    tau, tau_end = settings["tau"], settings.get("tau_end")
    if tau_end is not None and tau_end < tau:
        raise UserError(f"--tau-end {tau_end}: allowed are {tau} (--tau, else the avatar's) to 1")
    return settings


def _manifest(
    avatar: Avatar, driver: Driver, plan: Plan, options: RenderOptions, temporal: dict, seconds: "Stopwatch"
) -> dict:
    return {
        "avatar": str(avatar.folder.resolve()),
        "avatar_sha256": avatar.manifest["manifest_sha256"],
        "base": {"path": str(avatar.base.path.absolute()), "sha256": avatar.base.sha256},
        "driver": str(driver.path.resolve()),
        "driver_sha256": driver.sha256,
        "own_images": driver.posed is None,
        "mark": COMMENT,
        "settings": _settings(options),
        "prompt": _prompt(avatar, options),
        "temporal": temporal,
        "size": driver.size,
        "frame_rate": str(driver.frame_rate),
        "frames": list(plan.span),
        "held": plan.held,
        "shot_starts": [int(index) - plan.span.start for index in plan.indices[plan.starts]],
        "rendered_frames": len(plan.indices),
        "seconds": seconds.totals(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: metadata.version(name) for name in ("svp_jax", "jax", "flax")},
    }


def _settings(options: RenderOptions) -> dict:
    return {key: value for key, value in dataclasses.asdict(options).items() if key not in _OF_THIS_MACHINE}


def content_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file and folder in the folder of a render, but for its manifest."""
    return {path.name: content_sha256(path) for path in parts(folder)}


class Stopwatch:
    """Seconds of each named part, summed up, and of its first run, which includes compiling."""

    def __init__(self):
        self.times = defaultdict(list)

    @contextmanager
    def __call__(self, name: str):
        start = time.perf_counter()
        yield
        self.times[name].append(time.perf_counter() - start)

    def totals(self) -> dict[str, float]:
        """Total of each part, and of its first run as `NAME_first`."""
        return {name: round(sum(times), 3) for name, times in self.times.items()} | {
            f"{name}_first": round(times[0], 3) for name, times in self.times.items() if len(times) > 1
        }
