"""`svp render`: an avatar and drivers in, the avatar's videos out."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from svp_jax.capture.images import read_pngs
from svp_jax.diffusion import TemporalWeights
from svp_jax.errors import UserError
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
from svp_jax.rendering.chunks import Plan, plan_frames
from svp_jax.rendering.control import open_driver
from svp_jax.rendering.driver import Driver
from svp_jax.rendering.fit import check_fit, stage_unets
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.pipeline import render_frames
from svp_jax.rendering.progress import Progress
from svp_jax.rendering.prompts import Text, Timeline, read_text
from svp_jax.rendering.quality import with_preset
from svp_jax.rendering.samplers import build_stages
from svp_jax.rendering.segments import seam_differences, split, warm_up_frames
from svp_jax.rendering.sequences import Sequence, Track
from svp_jax.rendering.stopwatch import Stopwatch
from svp_jax.rendering.sweep import variants, write_overview
from svp_jax.rendering.writer import COMMENT, PictureWriter, RenderWriter
from svp_jax.unfinished import changes, check_same_run
from svp_jax.weights.avatar import Avatar, load_avatar

# Options that say nothing about the result, or that what is recorded besides says better.
_NOT_RECORDED = ("force", "base", "face_model_file", "also", "prompt_timeline")
CONSENT = (
    "note: the text decides whom this video shows. Where it names a real person, have that person's consent, and say "
    "that the video is AI-generated wherever you show it."
)
# Of an unfinished render: only rounding depends on them.
MAY_CHANGE = ("settings.chunk", "settings.batch")


@dataclass(frozen=True)
class Video:
    """One video of a run.

    Attributes:
        driver: what moves the avatar. plan: its frames.
        options: of the run, but for this video's own prompt and strength.
        temporal, text: as the options and the avatar say.
    """

    driver: Driver
    plan: Plan
    options: RenderOptions
    temporal: dict[str, float | None]
    text: Text


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
    previous frame was mixed in, `seams` where segments meet.

    With `options.sweep` or `options.also` there are several videos, and `out` is as in `sweep`.

    Raises:
        UserError: bad input, named.
    """
    several = bool(options.sweep or options.also)
    kind = "sweep" if several else "render"
    check_output(out, kind, options.force)
    manifest = read_manifest(avatar_folder, "avatar")
    options = with_preset(options, manifest["config"]["preview_steps"])
    videos = _opened(Path(avatar_folder), manifest, [driver_path, *options.also], options)
    if options.tuned_share < 1 and (options.prompt or options.prompt_timeline or options.sweep):
        print(CONSENT, file=sys.stderr)
    with _staged(out, kind, options, _run(manifest, videos)) as folder:
        _render_all(folder, Path(avatar_folder), videos)
        if several:
            _finish_sweep(folder, videos, options)
    return Path(out)


def _opened(avatar: Path, manifest: dict, drivers: list[Path], options: RenderOptions) -> dict[str, Video]:
    """The videos by the names of their folders ("" where there is one alone), ready to be rendered."""
    videos, temporal = {}, _temporal(manifest, options)
    for number, path in enumerate(drivers, start=1):
        driver = open_driver(avatar, manifest, path, options)
        plan = plan_frames(driver, options.frames)
        check_fit(avatar, manifest, driver, options)
        for name, each in variants(options).items():
            # Two drivers may have the same name.
            names = [f"driver_{number}_{Path(path).stem}"] if len(drivers) > 1 else []
            text = read_text(each, manifest["prompt"])
            videos["_".join([*names, name] if name else names)] = Video(driver, plan, each, temporal, text)
    return videos


def _finish_sweep(folder: Path, videos: dict[str, Video], options: RenderOptions) -> None:
    first = next(iter(videos.values()))
    labels = {
        name: f"{name} {video.text.prompts[0]}" if "prompt_" in name else name.replace("_", " ")
        for name, video in videos.items()
    }
    if options.stage == "both":
        frames = {name: list(video.plan.span) for name, video in videos.items()}
        write_overview(folder, labels, frames, first.driver.frame_rate)
    write_manifest(folder, "sweep", {"sweep": options.sweep, "videos": labels})


def _temporal(manifest: dict, options: RenderOptions) -> dict[str, float | None]:
    """The avatar's temporal weights, but for those that the options give."""
    names = ("current", "previous", "noise", "tau", "tau_end")
    given = {name: getattr(options, name) for name in names}
    settings = manifest["temporal"] | {name: value for name, value in given.items() if value is not None}
    tau, tau_end = settings["tau"], settings.get("tau_end")
    if tau_end is not None and tau_end < tau:
        raise UserError(f"--tau-end {tau_end}: allowed are {tau} (--tau, else the avatar's) to 1")
    return settings


def _run(manifest: dict, videos: Mapping[str, Video]) -> dict:
    """What decides how the pictures look: an unfinished render goes on with the same."""
    first = next(iter(videos.values()))
    return {
        "avatar": manifest["manifest_sha256"],
        "videos": [
            {
                "name": name,
                "driver": video.driver.sha256,
                "frames": [video.plan.span.start, video.plan.span.stop],
                "text": asdict(video.text),
            }
            for name, video in videos.items()
        ],
        "settings": _settings(first.options),
        "temporal": first.temporal,
    }


@contextmanager
def _staged(out: Path, kind: str, options: RenderOptions, run: dict) -> Iterator[Path]:
    """The folder to render into: what is finished there of the same `run` is gone on with."""
    with staged_folder(out, kind, options.force, resume=True) as folder, _kept_if_begun(folder):
        if options.force and (folder / RUN).exists() and changes(read_json(folder / RUN), run, MAY_CHANGE):
            empty_folder(folder)
        check_same_run(folder / RUN, run, out, MAY_CHANGE, "add --force to start anew")
        yield folder
        for name in (RUN, PROGRESS):
            (folder / name).unlink()


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


def _render_all(folder: Path, avatar_folder: Path, videos: Mapping[str, Video]) -> None:
    """Renders the videos side by side, each into `folder` / its name; they differ in driver, text and strength."""
    first = next(iter(videos.values()))
    options, temporal = first.options, TemporalWeights(**first.temporal)
    seconds = Stopwatch()
    with seconds("load"):
        avatar = load_avatar(
            avatar_folder, base=options.base, stages=stage_unets(options), dtype=jnp.dtype(options.precision)
        )
        tracks, sequences = _tracks(avatar, videos, temporal)
        stages = build_stages(avatar, tracks, sequences, options, temporal)
    kinds = dict(result=options.stage == "both", keep_maps=options.maps == "stage1")
    done = Progress.read(folder).done
    if options.segments == 1:
        with ExitStack() as stack:
            writers = []
            for (name, video), sequence in zip(videos.items(), sequences, strict=True):
                track = tracks[sequence.track]
                writers.append(stack.enter_context(_video_writer(folder / name, video, track.indices[:done], kinds)))
            progress = render_frames(folder, tracks, sequences, writers, stages, options.chunk, seconds)
            with seconds("write"):
                for writer in writers:
                    writer.finish()
    else:
        (video,) = videos.values()
        pictures = [PictureWriter(folder, **kinds)] * len(tracks)
        progress = render_frames(folder, tracks, sequences, pictures, stages, options.chunk, seconds)
        # Their frames do not come in order.
        with seconds("write"), _video_writer(folder, video, video.plan.indices, kinds) as writer:
            writer.finish()
    seams = {
        stage: seam_differences(tracks, progress.latents[stage], progress.warmed_up[stage])
        for stage in progress.latents
        if options.segments > 1
    }
    for name, video in videos.items():
        body = _manifest(avatar, video, seams, seconds)
        write_manifest(folder / name, "render", body | {"files": content_hashes(folder / name)})


def _tracks(
    avatar: Avatar, videos: Mapping[str, Video], temporal: TemporalWeights
) -> tuple[list[Track], list[Sequence]]:
    """One track for each driver, shared by its videos; or the segments of the one video."""
    first = next(iter(videos.values()))
    if first.options.segments > 1:
        warm_up = warm_up_frames(temporal, first.options.steps, first.options.tolerance)
        tracks = split(first.driver, first.plan, first.options.segments, warm_up)
        timeline = Timeline.of(avatar.base, first.text)
        return tracks, [Sequence(number, timeline, first.options.strength) for number in range(len(tracks))]
    tracks, numbers, sequences = [], {}, []
    for video in videos.values():
        if id(video.driver) not in numbers:
            numbers[id(video.driver)] = len(tracks)
            plan = video.plan
            tracks.append(Track(video.driver, plan.indices, plan.starts, shown_from=plan.span.start))
        timeline = Timeline.of(avatar.base, video.text)
        sequences.append(Sequence(numbers[id(video.driver)], timeline, video.options.strength))
    return tracks, sequences


@contextmanager
def _video_writer(folder: Path, video: Video, written: np.ndarray, kinds: dict) -> Iterator[RenderWriter]:
    """A writer to which all that an earlier run has `written` was handed again: videos cannot be gone on with."""
    folder.mkdir(exist_ok=True)
    stop = int(written[-1]) + 1 if len(written) else 0
    with RenderWriter(
        folder, video.driver, video.plan.span, label=video.options.label, written=stop, **kinds
    ) as writer:
        for start in range(0, len(written), video.options.chunk):
            frames = written[start : start + video.options.chunk]
            parsing = (
                read_pngs(folder / "parsing", frames) if kinds["keep_maps"] else video.driver.capture.parsing(frames)
            )
            writer.write(frames, parsing, read_pngs(folder / "frames", frames) if kinds["result"] else None)
        yield writer


def _manifest(avatar: Avatar, video: Video, seams: dict, seconds: Stopwatch) -> dict:
    driver, plan, options = video.driver, video.plan, video.options
    return {
        "avatar": str(avatar.folder.resolve()),
        "avatar_sha256": avatar.manifest["manifest_sha256"],
        "base": {"path": str(avatar.base.path.absolute()), "sha256": avatar.base.sha256},
        "driver": str(driver.path.resolve()),
        "driver_sha256": driver.sha256,
        "own_images": driver.posed is None,
        "mark": COMMENT,
        "settings": _settings(options),
        "prompt": video.text.prompts[0],
        "timeline": asdict(video.text) if len(video.text.prompts) > 1 else None,
        "temporal": video.temporal,
        "size": driver.size,
        "frame_rate": str(driver.frame_rate),
        "frames": list(plan.span),
        "held": plan.held,
        "shot_starts": [int(index) - plan.span.start for index in plan.indices[plan.starts]],
        "seams": seams,
        "rendered_frames": len(plan.indices),
        "seconds": seconds.totals(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: metadata.version(name) for name in ("svp_jax", "jax", "flax")},
    }


def _settings(options: RenderOptions) -> dict:
    return {key: value for key, value in asdict(options).items() if key not in _NOT_RECORDED}


def content_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file and folder in the folder of a render, but for its manifest."""
    return {path.name: content_sha256(path) for path in parts(folder)}
