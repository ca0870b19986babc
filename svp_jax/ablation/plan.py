"""What an ablation renders: points, and the groups of them that come of the same frames of Stage I."""

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from svp_jax.ablation.grid import Grid, Point, read_grid, same_pictures
from svp_jax.ablation.options import AblationOptions
from svp_jax.ablation.scores import open_perceptual
from svp_jax.capture.capture import open_capture
from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest
from svp_jax.metrics.networks import LPIPS
from svp_jax.metrics.sources import Source, open_source
from svp_jax.rendering.quality import with_preset
from svp_jax.rendering.run import Run, open_run

TEMPORAL = ("current", "previous", "noise", "tau")  # Of a point, what an avatar keeps.


@dataclass(frozen=True)
class Group:
    """Points that are rendered side by side: Stage I once, Stage II for each strength.

    Attributes:
        name: of its folder.
        point: of its points, but for the strength.
    """

    name: str
    point: Point
    strengths: list[float]

    def videos(self) -> dict[float, str]:
        """strength -> name of its folder in that of the group; "" where there is one alone."""
        several = len(self.strengths) > 1
        return {value: f"strength_{value:g}" if several else "" for value in self.strengths}


@dataclass(frozen=True)
class Ablation:
    """All that is tried.

    Attributes:
        run: of the first point; the others differ in temporal weights, steps and strength.
        groups: of each point, its group; points whose pictures are the same share one.
        lpips, left_out: as of `open_perceptual`.
    """

    run: Run
    reference: Source
    grid: Grid
    points: list[Point]
    groups: list[Group]
    lpips: LPIPS | None
    left_out: dict[str, str]

    def identity(self) -> dict:
        """What decides the scores: an unfinished ablation goes on with the same."""
        identity = self.run.identity()
        lpips = self.lpips and self.lpips.sha256
        identity |= {"axes": self.grid.axes, "current_is_rest": self.grid.rest, "lpips": lpips}
        # As it is read again: lists, no tuples.
        return json.loads(json.dumps(identity))


def open_ablation(avatar_folder: Path, capture_folder: Path, options: AblationOptions) -> Ablation:
    """What `options` ask for; the avatar's networks are not read yet.

    Raises:
        UserError: bad input, named.
    """
    grid = read_grid(options.grid)
    manifest = read_manifest(avatar_folder, "avatar")
    own = {each["manifest_sha256"] for each in manifest["captures"]}
    if open_capture(capture_folder).manifest["manifest_sha256"] not in own:
        warnings.warn(
            f"{avatar_folder} was not trained on {capture_folder}: the scores say something only if that shows the "
            "same person in the same light",
            stacklevel=3,
        )
    render_options = with_preset(options.render_options(), manifest["config"]["preview_steps"])
    run = open_run(avatar_folder, manifest, [capture_folder], render_options)
    if run.videos[0].plan.starts.all():
        raise UserError(
            f"--frames {options.frames}: no two frames of {capture_folder} there follow each other in one shot, so "
            "nothing can be said of smoothness; choose others"
        )
    fixed = {name: run.temporal[name] for name in TEMPORAL}
    points = grid.points(fixed | {"strength": render_options.strength, "steps": render_options.steps})
    tau_end = run.temporal.get("tau_end")
    for point in points:
        if tau_end is not None and point["tau"] > tau_end:
            raise UserError(
                f"--grid tau: {point['tau']:g} is behind the avatar's tau_end; allowed are 0 to {tau_end:g}"
            )
    groups = _groups(grid, points, tau_end)
    return Ablation(run, open_source(capture_folder), grid, points, groups, *open_perceptual())


def _groups(grid: Grid, points: list[Point], tau_end: float | None) -> list[Group]:
    """Of each point, the group that its pictures come from."""
    keys = [same_pictures(point, tau_end) for point in points]
    named = [name for name in grid.axes if name != "strength"]
    groups = {}
    for key, point in zip(keys, points, strict=True):
        name = "_".join(f"{axis}_{point[axis]:g}" for axis in named) or "all"
        group = groups.setdefault(key, Group(name, point, []))
        if point["strength"] not in group.strengths:
            group.strengths.append(point["strength"])
    return [groups[key] for key in keys]


def run_of(run: Run, group: Group) -> Run:
    """The run that renders the group's videos side by side."""
    temporal = {name: group.point[name] for name in TEMPORAL}
    options = replace(run.options, steps=int(group.point["steps"]), **temporal)
    videos = [
        replace(run.videos[0], name=name, options=replace(options, strength=strength))
        for strength, name in group.videos().items()
    ]
    return replace(run, options=options, temporal=run.temporal | temporal, videos=videos)
