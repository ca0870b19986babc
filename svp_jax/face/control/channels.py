"""The names by which people move a face, and what each sets in a face model.

    yaw pitch roll        degrees that the head is turned from its neutral pose, as seen in the picture: to its right,
                          upwards, counter-clockwise
    x y z                 how far it is moved from its neutral place, in parts of the distance between the outer corners
                          of the eyes: to the picture's right, upwards, to the viewer
    gazeYaw gazePitch     degrees that the eyes are turned in the head from their neutral direction: to the picture's
                          right, upwards; where the model has channels eyeLook*, the lids follow
    jawOpen, ...          the model's channels, absolute (0: at rest, 1: fully; `FaceModel.limits`)
    eyeBlink, ...         a channel's name without Left or Right is both sides
    blink, smile, ...     see `FRIENDLY`

FLAME's channels are principal components without names; what it has is a jaw, which `jawOpen` turns.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from svp_jax.errors import UserError, nearest, outside
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.multi_pie import eye_corners
from svp_jax.face.morphable.parameters import PER_FRAME, FaceParameters
from svp_jax.face.tracking import pose_angles

# Each stands for the channels, or both sides of them, whose names follow.
FRIENDLY = {
    "blink": ("eyeBlink",),
    "smile": ("mouthSmile",),
    "frown": ("mouthFrown",),
    "browUp": ("browOuterUp", "browInnerUp"),
    "pucker": ("mouthPucker",),
    "mouthOpen": ("jawOpen",),
}
# These are directions, not sides: mouthLeft moves the whole mouth.
_WITHOUT_SIDES = ("mouth", "jaw")
# Ours: FLAME's jaw at jawOpen 1, in radians about x (26 degrees; positive angles move the chin down and back).
JAW_OPEN = 0.45
# Ours: the gaze in degrees at which a channel of the lids, such as eyeLookUpLeft, is 1.
LID_DEGREES = 30.0
# Channels may go beyond the model's limits by this part of their range.
_MARGIN = 0.5


@dataclass(frozen=True)
class Target:
    """What a name sets.

    Attributes:
        part: "angles" (yaw, pitch, roll), "place" (x, y, z), "gaze" (yaw, pitch), "jaw" (open) or "expression".
        indices: which numbers of it.
        limits: the lowest and highest allowed value.
    """

    part: str
    indices: tuple[int, ...]
    limits: tuple[float, float]


# Ours: further, a head shows its back, leaves any crop or comes too near to the camera; eyes turn by 50 degrees.
_OF_ANY_MODEL = {
    "yaw": Target("angles", (0,), (-90, 90)),
    "pitch": Target("angles", (1,), (-90, 90)),
    "roll": Target("angles", (2,), (-90, 90)),
    "x": Target("place", (0,), (-5, 5)),
    "y": Target("place", (1,), (-5, 5)),
    "z": Target("place", (2,), (-20, 3)),
    "gazeYaw": Target("gaze", (0,), (-60, 60)),
    "gazePitch": Target("gaze", (1,), (-60, 60)),
}


def resolve(name: str, model: FaceModel, where: str = "controls") -> Target:
    """What `name` sets in `model`.

    Args:
        where: the file and line, or the flag, as messages begin.

    Raises:
        UserError: an unknown name; the nearest known one is named.
    """
    known = vocabulary(model)
    if name in known:
        return known[name]
    if model.name != "flame":
        raise UserError(f"{where}: unknown name {name!r}; {nearest(name, known)}")
    numbered = f"{model.channels[0]} to {model.channels[-1]}"
    allowed = [*(allowed for allowed in known if allowed not in model.channels), numbered]
    raise UserError(
        f"{where}: unknown name {name!r}: FLAME's expressions are principal components without names; "
        f"{nearest(name, allowed)}"
    )


def check_value(name: str, value: float, target: Target, where: str) -> None:
    """UserError where `value` is no finite number or far out of the range of what `name` sets."""
    if problem := outside(value, *target.limits):
        raise UserError(f"{where}: {name} is {value:g}, {problem}")


def check_overlap(targets: Mapping[str, Target], where: str) -> None:
    """UserError where two of the names in `targets` set the same thing."""
    owners: dict[tuple[str, int], str] = {}
    for name, target in targets.items():
        for index in target.indices:
            owner = owners.setdefault((target.part, index), name)
            if owner != name:
                raise UserError(f"{where}: {owner} and {name} set the same part of the face; give one of them")


def apply(
    controls: Mapping[str, np.ndarray | float],
    parameters: FaceParameters,
    neutral: FaceParameters,
    model: FaceModel,
    where: str = "controls",
) -> FaceParameters:
    """`parameters` with what `controls` name replaced in every frame; all else stays as it is.

    Channels get the value itself, all else the neutral's plus the value. The head's rotation is

        from_angles(yaw, pitch, roll) @ neutral's rotation

    where angles that `controls` do not name are those that the frame has relative to the neutral. A gaze moves the
    lids, and eyes that close are no longer wide, unless those channels are named too.

    A script that starts from rest is applied to `neutral.frames(np.zeros(N, int))`, a setting for a whole motion to
    that motion. Names that would set the same are allowed one after the other, in two calls.

    Args:
        controls: a value for all N frames, or one for each [N], by name.
        parameters: N frames.
        neutral: one frame of the same person at rest.
        where: what messages begin with.

    Raises:
        UserError: an unknown name, a value that is not finite or far out of range, two names that set the same.
    """
    targets = {name: resolve(name, model, where) for name in controls}
    check_overlap(targets, where)
    wanted: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for name, target in targets.items():
        values = np.broadcast_to(np.asarray(controls[name], np.float64), len(parameters))
        # The lowest and the highest stand for all: where one is not a number, both are not.
        for value in (values.min(initial=target.limits[1]), values.max(initial=target.limits[0])):
            check_value(name, value, target, where)
        wanted[target.part].update(dict.fromkeys(target.indices, values))
    base = {name: np.asarray(getattr(neutral, name), np.float32)[0] for name in PER_FRAME}
    expression, jaw, eyes, translation = (
        np.array(getattr(parameters, name), np.float32) for name in ("expression", "jaw", "eyes", "translation")
    )
    turned = parameters.rotation
    if wanted["angles"]:
        turned = _turned(np.asarray(turned), base["rotation"], wanted["angles"])
    if wanted["place"]:
        unit = face_size(model, neutral)
        for axis, values in wanted["place"].items():
            translation[:, axis] = base["translation"][axis] + unit * values
    for angle, values in wanted["gaze"].items():
        # Rotations about y turn to the picture's right, about x downwards.
        axis, sign = ((1, 1), (0, -1))[angle]
        eyes[:, :, axis] = base["eyes"][:, axis] + sign * np.radians(values)[:, None]
        for column, direction in _lids(model, angle):
            lid = base["expression"][column] + direction * values / LID_DEGREES
            expression[:, column] = np.clip(lid, *model.limits)
    for values in wanted["jaw"].values():
        jaw[:, 0] = JAW_OPEN * values
    for column, values in wanted["expression"].items():
        expression[:, column] = values
    for blink, wide in lid_columns(model.channels):
        if blink in wanted["expression"] and wide not in wanted["expression"]:
            expression[:, wide] *= 1 - np.clip(expression[:, blink], 0, 1)
    return replace(parameters, expression=expression, jaw=jaw, eyes=eyes, rotation=turned, translation=translation)


def lid_columns(channels: tuple[str, ...]) -> list[tuple[int, int]]:
    """(column of eyeBlink, column of eyeWide) of each side of which there are both.

    Many people's eyes are a little wide at rest. A lid cannot be raised and closed: left as it is, the one would keep
    the other from closing.
    """
    columns = {name: index for index, name in enumerate(channels)}
    pairs = [(f"eyeBlink{side}", f"eyeWide{side}") for side in ("Right", "Left")]
    return [(columns[blink], columns[wide]) for blink, wide in pairs if blink in columns and wide in columns]


def vocabulary(model: FaceModel) -> dict[str, Target]:
    """What can be set in `model`, by name."""

    def widened(low: float, high: float) -> tuple[float, float]:
        return low - _MARGIN * (high - low), high + _MARGIN * (high - low)

    column = {name: index for index, name in enumerate(model.channels)}
    known = {name: Target("expression", (index,), widened(*model.limits)) for name, index in column.items()}
    if model.name == "flame":
        known["jawOpen"] = Target("jaw", (0,), widened(0, 1))
    for left in model.channels:
        both = left.removesuffix("Left")
        right = f"{both}Right"
        if both != left and right in column and both not in (*known, *_WITHOUT_SIDES):
            known[both] = replace(known[left], indices=(column[left], column[right]))
    for name, parts in FRIENDLY.items():
        if all(part in known for part in parts):
            known[name] = replace(known[parts[0]], indices=sum((known[part].indices for part in parts), ()))
    return _OF_ANY_MODEL | known


def _turned(rotations: np.ndarray, neutral: np.ndarray, wanted: dict[int, np.ndarray]) -> np.ndarray:
    """Axis-angle vectors float32 [N, 3] for `rotations` [N, 3] with the `wanted` angles relative to `neutral` [3]."""
    rest = np.asarray(rotation.matrix(neutral), np.float64)
    angles = pose_angles(np.asarray(rotation.matrix(rotations), np.float64) @ rest.T)
    for index, values in wanted.items():
        angles[:, index] = values
    return rotation.vector(rotation.from_angles(*angles.T) @ rest).astype(np.float32)


def face_size(model: FaceModel, neutral: FaceParameters) -> float:
    """Distance between the outer corners of the neutral's eyes, in the model's unit of length."""
    right, left = eye_corners(np.asarray(model.landmarks.points(model.vertices(neutral)))[0])
    return float(np.linalg.norm(left - right))


def _lids(model: FaceModel, angle: int) -> list[tuple[int, int]]:
    """(column, 1 or -1) of each channel that moves the lids with the gaze's yaw (0) or pitch (1), and its direction."""
    # The picture's right is the subject's left, where the left eye looks outwards.
    towards = (
        {"OutLeft": 1, "InLeft": -1, "InRight": 1, "OutRight": -1},
        {"UpLeft": 1, "DownLeft": -1, "UpRight": 1, "DownRight": -1},
    )[angle]
    columns = {name: index for index, name in enumerate(model.channels)}
    return [(columns[f"eyeLook{end}"], sign) for end, sign in towards.items() if f"eyeLook{end}" in columns]
