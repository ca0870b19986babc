"""The grid of an ablation: axes with their values, and the points that are all combinations of them.

The source's figure shows heat maps over the weights of the current frame, the previous frame and the noise. So does the
default grid: current and previous each in four values, for two weights of the noise, at the avatar's own tau. It holds
plain denoising (1, 0, 1) and pairs whose sum is not 1, which show how the picture loses or gains contrast there.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from svp_jax.diffusion import TemporalWeights
from svp_jax.errors import UserError, nearest
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.sweep import numbers

AXES = ("current", "previous", "noise", "tau", "strength", "steps")
REST = "current=rest"
DEFAULT = ("current=0.4:1:4", "previous=0:0.6:4", "noise=0.9|1")
Point = dict[str, float]  # setting -> value, of all `AXES`


@dataclass(frozen=True)
class Grid:
    """What is tried.

    Attributes:
        axes: name -> values, in the order they were given.
        rest: whether the weight of the current frame is 1 - previous, which no axis of its own says then.
    """

    axes: dict[str, list[float]]
    rest: bool

    def points(self, fixed: Point) -> list[Point]:
        """All combinations, the last axis fastest; what is no axis is as in `fixed`."""
        points = [
            fixed | dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())
        ]
        if self.rest:
            points = [point | {"current": float(f"{1 - point['previous']:.6g}")} for point in points]
        return [{name: point[name] for name in AXES} for point in points]


def read_grid(arguments: Sequence[str]) -> Grid:
    """The grid of `--grid` arguments, the default one where there are none.

    Raises:
        UserError: an unknown axis or one given twice, or values that cannot be read, are not allowed or come twice.
    """
    axes, rest = {}, False
    for argument in arguments or DEFAULT:
        name, _, text = argument.partition("=")
        where = f"--grid {argument}"
        if not text:
            raise UserError(f"{where}: allowed are AXIS=FROM:TO:COUNT and AXIS=A|B|..., such as previous=0:0.6:4")
        if name not in AXES:
            raise UserError(f"{where}: unknown axis {name}; {nearest(name, AXES)}")
        if name in axes or (name == "current" and rest):
            raise UserError(f"{where}: the axis {name} is given twice; give all its values at once")
        if argument == REST:
            rest = True
        else:
            axes[name] = _allowed(where, name, numbers(where, text))
    if rest and "previous" not in axes:
        raise UserError(f"--grid {REST} is 1 - previous; add an axis previous, such as --grid previous=0:0.6:4")
    return Grid(axes, rest)


def _allowed(where: str, name: str, values: list[float]) -> list[float]:
    """`values`, checked as the flag of `svp render` would be."""
    for value in values:
        try:
            RenderOptions(**{name: value})
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix('--')}") from None
        if name == "steps" and value != int(value):
            raise UserError(f"{where}: steps {value:g}: allowed are whole numbers")
    # Files are named by it.
    shown = [f"{value:g}" for value in values]
    if len(set(shown)) < len(shown):
        twice = next(value for value in shown if shown.count(value) > 1)
        raise UserError(f"{where}: {twice} comes twice, to six digits; give each value once")
    return values


def same_pictures(point: Point, tau_end: float | None) -> tuple[float, ...]:
    """Equal for points that differ in `strength` alone, or in nothing that matters.

    Two values of tau may come to the same step, and where the weights are those of plain denoising none matters.
    """
    steps = int(point["steps"])
    weights = {name: point[name] for name in ("current", "previous", "noise")}
    first, last = TemporalWeights(**weights, tau=point["tau"], tau_end=tau_end).mixed_steps(steps)
    return steps, int(first), int(last), *weights.values()
