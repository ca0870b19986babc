"""`svp render`: an avatar and drivers in, the avatar's videos out."""

import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

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
from svp_jax.rendering.fit import stage_unets
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.pipeline import render_frames
from svp_jax.rendering.progress import Progress
from svp_jax.rendering.prompts import Timeline
from svp_jax.rendering.quality import with_preset
from svp_jax.rendering.run import Run, Video, open_run, recorded
from svp_jax.rendering.segments import seam_differences, split, warm_up_frames
from svp_jax.rendering.sequences import Sequence, Track
from svp_jax.rendering.stages import Stages, build_stages
from svp_jax.rendering.stopwatch import Stopwatch
from svp_jax.rendering.sweep import write_grid, write_sheet
from svp_jax.rendering.writer import COMMENT, PictureWriter, RenderWriter
from svp_jax.unfinished import changes, check_same_run
from svp_jax.weights.avatar import Avatar, load_avatar

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
    run = open_run(Path(avatar_folder), manifest, [driver_path, *options.also], options)
    if options.tuned_share < 1 and (options.prompt or options.prompt_timeline or options.sweep):
        print(CONSENT, file=sys.stderr)
    with _staged(out, kind, options, run.identity()) as folder:
        seconds = Stopwatch(Progress.read(folder).seconds)
        with seconds("load"):
            avatar = load_networks(Path(avatar_folder), options)
        render_run(folder, avatar, run, seconds)
        if several:
            if options.stage == "both":
                write_sheet(folder, {video.name: (video.label, video.plan.span) for video in run.videos})
            if options.stage == "both" and not options.also:
                first = run.videos[0]
                labels = {video.name: video.label for video in run.videos}
                write_grid(folder, labels, first.plan.span, first.driver.frame_rate)
            names = [video.name for video in run.videos]
            overview = {name: digest for name, digest in content_hashes(folder).items() if name not in names}
            body = {"sweep": options.sweep, "videos": names, "run": run.identity(), "files": overview}
            write_manifest(folder, "sweep", body)
    # The finished folder without them is finished too; an unfinished one without them would be begun anew.
    for name in (RUN, PROGRESS):
        (Path(out) / name).unlink()
    return Path(out)


@contextmanager
def _staged(out: Path, kind: str, options: RenderOptions, run: dict) -> Iterator[Path]:
    """The folder to render into: what is finished there of the same `run` is gone on with."""
    with staged_folder(out, kind, options.force, resume=True) as folder:
        worthless = options.force or not (folder / PROGRESS).exists()
        if worthless and (folder / RUN).exists() and changes(read_json(folder / RUN), run, MAY_CHANGE):
            empty_folder(folder)
        with _kept_if_begun(folder):
            check_same_run(folder / RUN, run, out, MAY_CHANGE, "add --force to start anew")
            with _told_that_it_goes_on(folder):
                yield folder


@contextmanager
def _kept_if_begun(folder: Path) -> Iterator[None]:
    """After an error, leaves nothing where no chunk is finished."""
    try:
        yield
    except BaseException:
        if not (folder / PROGRESS).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _told_that_it_goes_on(folder: Path) -> Iterator[None]:
    """Adds to a user's error what to do where a chunk is finished."""
    try:
        yield
    except UserError as error:
        if not (folder / PROGRESS).exists():
            raise
        raise UserError(f"{error}; what is finished is kept, then the same command goes on there") from None


def load_networks(avatar_folder: Path, options: RenderOptions) -> Avatar:
    """The avatar with all that a render with these options takes of it; UserError as for `load_avatar`."""
    dtype = jnp.dtype(options.precision)
    return load_avatar(avatar_folder, base=options.base, stages=stage_unets(options), dtype=dtype)


def render_run(folder: Path, avatar: Avatar, run: Run, seconds: Stopwatch) -> None:
    """Renders the run's videos side by side, each into `folder` / its name, from where `Progress` in `folder` says."""
    options, temporal = run.options, TemporalWeights(**run.temporal)
    with seconds("load"):
        tracks, sequences = _tracks(avatar, run, temporal)
        stages = build_stages(avatar, tracks, sequences, options, temporal)
    kinds = dict(result=options.stage == "both", keep_maps=options.maps == "stage1")
    if options.segments > 1:
        progress = _render_segments(folder, run.videos[0], tracks, sequences, stages, kinds, seconds)
    else:
        done = Progress.read(folder).done
        with ExitStack() as stack:
            writers = [
                stack.enter_context(_again(folder / video.name, video, tracks[each.track].indices[:done], kinds))
                for video, each in zip(run.videos, sequences, strict=True)
            ]
            progress = render_frames(folder, tracks, sequences, writers, stages, seconds)
            with seconds("write"):
                for writer in writers:
                    writer.finish()
    seams = {
        stage: seam_differences(tracks, progress.latents[stage], progress.warmed_up[stage])
        for stage in progress.latents
        if options.segments > 1
    }
    _warn_of_seams(seams, options.tolerance)
    for video in run.videos:
        body = _manifest(avatar, video, run, seams, seconds)
        write_manifest(folder / video.name, "render", body | {"files": content_hashes(folder / video.name)})


def _tracks(avatar: Avatar, run: Run, temporal: TemporalWeights) -> tuple[list[Track], list[Sequence]]:
    """One track for each driver, shared by its videos; or the segments of the one video."""
    if run.options.segments > 1:
        (video,) = run.videos
        # One stage after the other: the second settles once the maps that it is given have.
        warm_up = len(stage_unets(run.options)) * warm_up_frames(temporal, run.options.steps, run.options.tolerance)
        tracks = split(video.driver, video.plan, run.options.segments, warm_up)
        timeline = Timeline.of(avatar.base, video.text)
        return tracks, [Sequence(number, timeline, video.options.strength) for number in range(len(tracks))]
    tracks, numbers, sequences = [], {}, []
    for video in run.videos:
        if id(video.driver) not in numbers:
            numbers[id(video.driver)] = len(tracks)
            plan = video.plan
            tracks.append(Track(video.driver, plan.indices, plan.starts, shown_from=plan.span.start))
        timeline = Timeline.of(avatar.base, video.text)
        sequences.append(Sequence(numbers[id(video.driver)], timeline, video.options.strength))
    return tracks, sequences


def _render_segments(
    folder: Path,
    video: Video,
    tracks: list[Track],
    sequences: list[Sequence],
    stages: Stages,
    kinds: dict[str, bool],
    seconds: Stopwatch,
) -> Progress:
    """First all pictures, which do not come in order, then the videos."""
    writers = [PictureWriter(folder, **kinds)] * len(tracks)
    progress = render_frames(folder, tracks, sequences, writers, stages, seconds)
    with seconds("write"), _again(folder, video, video.plan.indices, kinds) as writer:
        writer.finish()
    return progress


@contextmanager
def _again(folder: Path, video: Video, written: np.ndarray, kinds: dict[str, bool]) -> Iterator[RenderWriter]:
    """A writer to which the pictures `written` int [n] were handed again: an unfinished video cannot be gone on with.

    Args:
        kinds: which pictures there are, as for `PictureWriter`.
    """
    folder.mkdir(exist_ok=True)
    stop = int(written[-1]) + 1 if len(written) else 0
    settings = dict(label=video.options.label, written=stop, **kinds)
    with RenderWriter(folder, video.driver, video.plan.span, **settings) as writer:
        for frame in tqdm(written, desc="videos", unit="frame", disable=not len(written)):
            frames, own_maps = np.array([frame]), kinds["keep_maps"]
            parsing = read_pngs(folder / "parsing", frames) if own_maps else video.driver.capture.parsing(frames)
            writer.write(frames, parsing, read_pngs(folder / "frames", frames) if kinds["result"] else None)
        yield writer


def _warn_of_seams(seams: dict[str, list[dict]], tolerance: float) -> None:
    """Where more is left of what a segment did not see than --tolerance allows."""
    for stage, found in seams.items():
        worst = max(found, key=lambda seam: seam["difference"], default=None)
        if worst is not None and worst["difference"] > tolerance:
            warnings.warn(
                f"segments of the {stage} stage differ by {worst['difference']:.2g} standard deviations at frame "
                f"{worst['frame']}, more than --tolerance {tolerance}; a smaller one warms them up longer",
                stacklevel=2,
            )


def _manifest(avatar: Avatar, video: Video, run: Run, seams: dict, seconds: Stopwatch) -> dict:
    driver, plan = video.driver, video.plan
    return {
        "avatar": str(avatar.folder.resolve()),
        "avatar_sha256": avatar.manifest["manifest_sha256"],
        "base": {"path": str(avatar.base.path.absolute()), "sha256": avatar.base.sha256},
        "driver": str(driver.path.resolve()),
        "driver_sha256": driver.sha256,
        "own_images": driver.posed is None,
        "mark": COMMENT,
        "settings": recorded(video.options),
        "prompt": video.text.prompts[0],
        "timeline": asdict(video.text) if len(video.text.prompts) > 1 else None,
        "face_model_file_sha256": run.face_model_sha256,
        "temporal": run.temporal,
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


def content_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file and folder in the folder of a render, but for its manifest."""
    return {path.name: content_sha256(path) for path in parts(folder)}
