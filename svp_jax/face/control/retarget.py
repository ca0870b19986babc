"""The motion of one person on another: relative to each one's own neutral face.

What moves is the difference to the neutral: expression weights of the same name, the turn of the head as it is seen in
the picture, its shift in parts of the face's size, the gaze, and FLAME's joints of jaw and neck.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from svp_jax.errors import UserError
from svp_jax.face.control.channels import face_size, lid_columns
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.parameters import FaceParameters
from svp_jax.face.morphable.tracked import matching_channels


@dataclass(frozen=True)
class Actor:
    """A person's face model and how that person is at rest (`FaceParameters` of one frame)."""

    model: FaceModel
    neutral: FaceParameters


def neutral_of(parameters: FaceParameters, usable: np.ndarray) -> FaceParameters:
    """The person at rest, one frame: the median over the frames `usable` (bool [N]) of everything but the rotation.

    Most frames of a talking face are near its rest, which differs from the average face's: lids hang, corners of the
    mouth drop. The rotation is the mean one (the matrix nearest to the mean of matrices).
    """
    frames = parameters.frames(np.flatnonzero(usable))
    left, _, right = np.linalg.svd(np.asarray(rotation.matrix(np.asarray(frames.rotation))).mean(axis=0))
    mirrored = np.array([1, 1, np.sign(np.linalg.det(left @ right))])

    def median(array) -> np.ndarray:
        return np.median(np.asarray(array), axis=0, keepdims=True).astype(np.float32)

    return FaceParameters(
        identity=np.asarray(parameters.identity, np.float32),
        expression=median(frames.expression),
        jaw=median(frames.jaw),
        neck=median(frames.neck),
        eyes=median(frames.eyes),
        rotation=rotation.vector((left * mirrored) @ right)[None].astype(np.float32),
        translation=median(frames.translation),
    )


def retarget(motion: FaceParameters, driver: Actor, avatar: Actor) -> FaceParameters:
    """The avatar's parameters in the B frames of the driver's `motion`.

    Raises:
        UserError: the two models have no expression in common.
    """
    own, other = avatar.neutral, driver.neutral
    columns = matching_channels(avatar.model.channels, driver.model.channels)
    known = columns >= 0
    if not known.any():
        raise UserError(
            f"the driver's face model {driver.model.name} and the avatar's {avatar.model.name} have no expression in "
            "common; prepare the driver with the avatar's --face-model"
        )
    moved = np.asarray(motion.expression) - other.expression
    unused = sorted(set(range(moved.shape[1])) - set(columns[known]))
    lost = [driver.model.channels[index] for index in unused if np.abs(moved[:, index]).max() > 0.2]
    if lost:
        warnings.warn(
            f"the avatar's face model {avatar.model.name} has no {', '.join(lost)}: left out of the motion",
            stacklevel=2,
        )
    expression = own.expression + np.where(known, moved[:, np.maximum(columns, 0)], 0)
    for pair in lid_columns(avatar.model.channels):
        if known[list(pair)].all():
            # Both rests fade while the driver's eye closes: shut is shut, however lids hang at rest.
            shut = np.clip(np.asarray(motion.expression)[:, columns[pair[0]]], 0, 1)
            for column in pair:
                expression[:, column] -= shut * (own.expression[0, column] - other.expression[0, columns[column]])
    turned = np.asarray(rotation.matrix(np.asarray(motion.rotation)))
    rest, start = (np.asarray(rotation.matrix(np.asarray(n.rotation)))[0] for n in (other, own))
    scale = face_size(avatar.model, own) / face_size(driver.model, other)
    return FaceParameters(
        identity=own.identity,
        expression=np.clip(expression, *avatar.model.limits).astype(np.float32),
        jaw=own.jaw + np.asarray(motion.jaw) - other.jaw,
        neck=own.neck + np.asarray(motion.neck) - other.neck,
        eyes=own.eyes + np.asarray(motion.eyes) - other.eyes,
        rotation=rotation.vector((turned @ rest.T) @ start).astype(np.float32),
        translation=(own.translation + scale * (np.asarray(motion.translation) - other.translation)).astype(np.float32),
    )
