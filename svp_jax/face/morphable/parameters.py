"""What poses a parametric face model."""

from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import numpy as np

from svp_jax.errors import UserError


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["identity", "expression", "jaw", "neck", "eyes", "rotation", "translation"],
    meta_fields=[],
)
@dataclass(frozen=True)
class FaceParameters:
    """One person in B frames. Rotations are axis-angle vectors in radians.

    Axes of the head and of the camera's space alike: x to the picture's right, y up, z to the viewer. The camera sits
    in the origin and looks along -z; a head with rotation 0 looks straight into it.

    Attributes:
        identity: [I], the person's shape, in standard deviations of the model.
        expression: [B, E], one weight for each of the model's `channels`.
        jaw, neck: [B, 3]; without effect in models whose expression opens the mouth (ict, mediapipe).
        eyes: [B, 2, 3], right and left eye (the subject's), about their centres; 0 looks straight ahead.
        rotation: [B, 3], of the whole head.
        translation: [B, 3], in the model's unit of length.
    """

    identity: jax.Array
    expression: jax.Array
    jaw: jax.Array
    neck: jax.Array
    eyes: jax.Array
    rotation: jax.Array
    translation: jax.Array

    def __len__(self) -> int:
        return len(self.expression)

    def frames(self, indices) -> "FaceParameters":
        """The same person in the frames `indices` (anything that indexes an array)."""
        return replace(self, **{name: getattr(self, name)[indices] for name in PER_FRAME})

    def arrays(self) -> dict[str, np.ndarray]:
        """All by name, as float32 NumPy arrays."""
        return {field.name: np.asarray(getattr(self, field.name), np.float32) for field in fields(self)}


PER_FRAME = tuple(field.name for field in fields(FaceParameters) if field.name != "identity")


def neutral(identity_size: int, expression_size: int, frames: int = 1) -> FaceParameters:
    """The average face, at rest, in the camera's own place."""
    return FaceParameters(
        identity=np.zeros(identity_size, np.float32),
        expression=np.zeros((frames, expression_size), np.float32),
        jaw=np.zeros((frames, 3), np.float32),
        neck=np.zeros((frames, 3), np.float32),
        eyes=np.zeros((frames, 2, 3), np.float32),
        rotation=np.zeros((frames, 3), np.float32),
        translation=np.zeros((frames, 3), np.float32),
    )


def check_finite(parameters: FaceParameters, where: str, mend: str = "make the file again or leave it out") -> None:
    """UserError that names `where`, the array and the frame that is not a finite number, and ends with `mend`."""
    for name, array in parameters.arrays().items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            place = f"at {bad[0].tolist()}" if name == "identity" else f"in frame {bad[0][0]}"
            raise UserError(f"{where}: {name} is not a finite number {place}; {mend}")
