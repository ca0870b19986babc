"""What an importer gives, and the checks that all of them share."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.flame import ALL, Flame
from svp_jax.face.morphable.parameters import FaceParameters, neutral


@dataclass(frozen=True)
class Imported:
    """One person in B frames of a video, as a tool saw them.

    Attributes:
        tool: its name, as `recognise.import_parameters` calls it.
        parameters: for the FLAME model that was given, in metres; with the tool's numbers of weights, so `Flame.sized`
            tells how to pose them.
        camera: of all frames, in pixels of the pictures of `image_size`.
        frames: int64 [B], numbers of the frames from 0 on, increasing; the tool's own.
        image_size: height and width.
        frame_rate: at which the tool takes frames from a video, if not told otherwise; None where it takes every one.
        notes: what of the tool's output is lost, a line each.
    """

    tool: str
    parameters: FaceParameters
    camera: Camera
    frames: np.ndarray
    image_size: tuple[int, int]
    frame_rate: Fraction | None = None
    notes: tuple[str, ...] = ()


def numbers(content: dict, name: str, where: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """The array `name`, float64, of a shape with None for any size.

    Raises:
        UserError: it is missing, misshapen, empty or not finite.
    """
    if name not in content:
        raise UserError(f"{where} lacks {name}; see docs/importers.md for what it must hold")
    try:
        array = np.asarray(content[name], np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {name} is no array of numbers; save it again") from None
    if len(array.shape) != len(shape) or any(s not in (None, size) for size, s in zip(array.shape, shape, strict=True)):
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise UserError(f"{where}: {name} has the shape {list(array.shape)}, allowed is [{wanted}]; save it again")
    if not array.size:
        raise UserError(f"{where}: {name} is empty, there are no frames; track the video again")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise UserError(f"{where}: {name} is not a finite number at {bad[0].tolist()}; leave that frame out")
    return array


def positive(values: np.ndarray, name: str, where: Path) -> np.ndarray:
    """`values`, a focal length or sizes in pixels.

    Raises:
        UserError: one of them is 0 or less.
    """
    if (values <= 0).any():
        raise UserError(f"{where}: {name} is {np.ravel(values).tolist()}, allowed is above 0; track the video again")
    return values


def turns(matrices: np.ndarray, name: str, where: Path) -> np.ndarray:
    """`matrices` [..., 3, 3], rotations.

    Raises:
        UserError: one of them stretches (by more than 1e-3, far above float32's rounding), mirrors or is singular.
    """
    off = np.abs(matrices @ matrices.swapaxes(-1, -2) - np.eye(3)).max((-1, -2)) > 1e-3
    wrong = np.argwhere(off | (np.linalg.det(matrices) < 0))
    if len(wrong):
        at = f" {wrong[0].tolist()}" if wrong.shape[1] else ""
        raise UserError(f"{where}: {name}{at} is no rotation (it stretches or mirrors); track the video again")
    return matrices


def person(
    model: Flame,
    where: Path,
    notes: list[str],
    *,
    identity: np.ndarray,
    expression: np.ndarray,
    rotation: np.ndarray,
    jaw: np.ndarray,
    translation: np.ndarray,
    neck: np.ndarray | None = None,
    eyes: np.ndarray | None = None,
) -> FaceParameters:
    """Parameters with as many weights as the tool has, at most the model's; what is None is at rest.

    Args:
        notes: what is lost is added to.
        identity: [n] or, where a tool gives each frame its own, [B, n]: then their mean.
        expression: [B, n].
        rotation, jaw, translation, neck: [B, 3].
        eyes: [B, 6] in FLAME's order, left eye first.
    """
    rest = neutral(0, 0, len(expression))
    mean = identity if identity.ndim == 1 else identity.mean(0)
    given = {
        "identity": _fitted(mean, model.identity_size, "shape", where, notes),
        "expression": _fitted(expression, len(model.channels), "expression", where, notes),
        "rotation": rotation,
        "jaw": jaw,
        "translation": translation,
        "neck": rest.neck if neck is None else neck,
        "eyes": rest.eyes if eyes is None else eyes.reshape(-1, 2, 3)[:, ::-1],
    }
    return FaceParameters(**{name: np.asarray(array, np.float32) for name, array in given.items()})


def _fitted(weights: np.ndarray, size: int, what: str, where: Path, notes: list[str]) -> np.ndarray:
    if np.any(weights[..., size:]):
        notes.append(
            f"{where} has {weights.shape[-1]} {what} weights, the FLAME model {size}: the others are left out; give "
            f"FLAME's whole file, which has {ALL[0]} shape and {ALL[1]} expression weights"
        )
    return weights[..., :size]


def in_order(imported: Imported, where: Path) -> Imported:
    """The frames by their numbers.

    Raises:
        UserError: two have the same number.
    """
    order = np.argsort(imported.frames, kind="stable")
    frames = np.asarray(imported.frames, np.int64)[order]
    twice = frames[1:][frames[1:] == frames[:-1]]
    if len(twice):
        raise UserError(f"{where} holds frame {twice[0]} twice; give the output of one video and one person")
    return replace(imported, parameters=imported.parameters.frames(order), frames=frames)


def left_out(where: Path, what: str) -> str:
    """The note that FLAME has no place for something that a file holds."""
    return f"{where}: {what} is left out, since FLAME has none"
