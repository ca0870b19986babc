"""`svp ablate`: an avatar's frames for all points of a grid of settings, scored, and the best weights named."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from svp_jax.ablation.options import AblationOptions
from svp_jax.ablation.pictures import write_front, write_heat_map
from svp_jax.ablation.plan import Ablation, Group, open_ablation, run_of
from svp_jax.ablation.report import judged, nested, protocol, write_best
from svp_jax.ablation.scores import score_render
from svp_jax.errors import UserError
from svp_jax.manifest import (
    FILE_NAMES,
    PROGRESS,
    RUN,
    check_output,
    empty_folder,
    read_json,
    read_manifest,
    staged_folder,
    write_json,
    write_manifest,
)
from svp_jax.metrics.report import write_page
from svp_jax.rendering.render import MAY_CHANGE, load_networks, render_run
from svp_jax.rendering.stages import schedule_of
from svp_jax.rendering.stopwatch import Stopwatch
from svp_jax.unfinished import changes, check_same_run
from svp_jax.weights.avatar import Avatar

RENDERS, SCORES = "renders", "scores"  # In the folder of a report; scores only while it is unfinished.


def ablate(avatar_folder: Path, capture_folder: Path, out: Path, options: AblationOptions) -> Path:
    """Renders and scores `capture_folder`'s frames for all points of a grid into the folder `out`; returns it.

    out/
      metrics.json       the report, with the grid and its scores under "ablation"
      heatmap_METRIC.png one for each metric
      front.png          smoothness against the distance of the pictures
      report.html        the same to look at; needs no network
      renders/           all renders, with `options.keep_renders`

    In metrics.json, "ablation" holds `axes` (name -> values), `points` (each with all `settings`, the mean `scores`,
    `on_front` and `best`), `metrics` (the same scores by name, nested as the axes), `front` (the two metrics of the
    front) and `left_out` (metric -> reason).

    A temporal weight or a number of steps holds for both stages, as in `svp render`, so Stage I's maps are made for
    each; where points differ in strength alone, or in a tau that comes to the same step, they are made once.

    Raises:
        UserError: bad input, named.
    """
    avatar_folder, out = Path(avatar_folder), Path(out)
    # Its best point was not wanted before, and now is.
    finished = options.write_best and not options.force and (out / FILE_NAMES["report"]).is_file()
    if not finished:
        check_output(out, "report", options.force)
    ablation = open_ablation(avatar_folder, Path(capture_folder), options)
    if not finished:
        _make(ablation, avatar_folder, out, options)
    elif changed := changes(read_manifest(out, "report").get("run", {}), ablation.identity(), MAY_CHANGE):
        raise UserError(
            f"--out {out} is a report with {changed}; give its own settings to write its best, or another --out"
        )
    if options.write_best:
        write_best(avatar_folder, read_manifest(out, "report"))
    return out


def _make(ablation: Ablation, avatar_folder: Path, out: Path, options: AblationOptions) -> None:
    with _staged(out, ablation, options) as folder:
        points, front = judged(ablation.points, _all_scores(folder, ablation, avatar_folder, options))
        axes = ablation.grid.axes
        for metric in points[0]["scores"]:
            write_heat_map(folder / f"heatmap_{metric}.png", axes, points, metric)
        write_front(folder / "front.png", axes, points, front)
        body = {
            "ablation": {
                "axes": axes,
                "points": points,
                "metrics": nested(axes, points),
                "front": front,
                "left_out": ablation.left_out,
            },
            "left_out": ablation.left_out,
            "avatar": str(avatar_folder.resolve()),
            "reference": ablation.reference.describe(),
            "protocol": protocol(ablation, front),
            "run": ablation.identity(),
        }
        write_page(folder, f"Ablation of {avatar_folder.resolve().name}", body, {})
        write_manifest(folder, "report", body)
    # The finished folder without them is finished too; an unfinished one without them would be begun anew.
    shutil.rmtree(out / SCORES)
    if not options.keep_renders:
        # Left where a run was killed after its last score.
        shutil.rmtree(out / RENDERS, ignore_errors=True)
    for path in [out / RUN, *out.rglob(PROGRESS)]:
        path.unlink()


@contextmanager
def _staged(out: Path, ablation: Ablation, options: AblationOptions) -> Iterator[Path]:
    """The folder to work in: what is finished there of the same ablation is gone on with."""
    run = ablation.identity() | {"keep_renders": options.keep_renders}
    with staged_folder(out, "report", options.force, resume=True) as folder:
        if options.force and (folder / RUN).exists() and changes(read_json(folder / RUN), run, MAY_CHANGE):
            empty_folder(folder)
        check_same_run(folder / RUN, run, out, MAY_CHANGE, "add --force to start anew")
        try:
            yield folder
        except BaseException as error:
            scored = len(list(folder.glob(f"{SCORES}/*.json")))
            if not scored and not list(folder.rglob(PROGRESS)):
                shutil.rmtree(folder, ignore_errors=True)
            elif isinstance(error, UserError):
                raise UserError(f"{error}; renders that are scored ({scored}) are kept") from None
            raise


def _all_scores(
    folder: Path, ablation: Ablation, avatar_folder: Path, options: AblationOptions
) -> list[dict[str, float | None]]:
    """Of each point; what has none yet is rendered."""
    groups = {group.name: group for group in ablation.groups}
    todo = [group for group in groups.values() if not all(path.exists() for path in _files(folder, group))]
    print(
        f"{len(ablation.points)} points, {sum(len(group.strengths) for group in groups.values())} different renders of "
        f"{len(ablation.run.videos[0].plan.indices)} frames",
        file=sys.stderr,
    )
    if todo:
        (folder / SCORES).mkdir(exist_ok=True)
        avatar = load_networks(avatar_folder, ablation.run.options)
        for steps in ablation.grid.axes.get("steps", []):
            schedule_of(avatar, replace(ablation.run.options, steps=int(steps)))
    began = time.monotonic()
    for number, group in enumerate(todo):
        each = (time.monotonic() - began) / number if number else None
        left = "" if each is None else f", about {each * (len(todo) - number) / 60:.1f} min left"
        print(f"{number + 1} of {len(todo)}: {group.name.replace('_', ' ')}{left}", file=sys.stderr)
        _score_group(folder, avatar, ablation, group)
        if not options.keep_renders:
            shutil.rmtree(folder / RENDERS)
    places = [_files(folder, group) for group in ablation.groups]
    return [
        read_json(files[group.strengths.index(point["strength"])])
        for files, group, point in zip(places, ablation.groups, ablation.points, strict=True)
    ]


def _files(folder: Path, group: Group) -> list[Path]:
    """Where the scores of each of the group's strengths are noted."""
    names = ("_".join(filter(None, (group.name, video))) for video in group.videos().values())
    return [folder / SCORES / f"{name}.json" for name in names]


def _score_group(folder: Path, avatar: Avatar, ablation: Ablation, group: Group) -> None:
    """Renders the group into RENDERS / its name and notes its scores."""
    renders = folder / RENDERS / group.name
    renders.mkdir(parents=True, exist_ok=True)
    try:
        render_run(renders, avatar, run_of(ablation.run, group), Stopwatch({}))
    except UserError as error:
        raise UserError(f"{group.name.replace('_', ' ')}: {error}") from None
    for file, video in zip(_files(folder, group), group.videos().values(), strict=True):
        if not file.exists():
            write_json(file, score_render(renders / video, ablation.reference, ablation.lpips))
