"""The captures that an avatar is trained on: one, or several of the same person."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.errors import UserError
from svp_jax.face.labels import LABELS, PALETTE

MIN_FRAMES = 8


def open_captures(folders: Sequence[Path]) -> tuple[Capture, ...]:
    """Opens finished captures that can be trained on together.

    Raises:
        UserError: none, one that does not open or is given twice, too few frames, or two whose pictures or maps were
            not made alike.
    """
    if not folders:
        raise UserError("no capture is given; give one or more folders made by svp prepare")
    captures = tuple(open_capture(folder) for folder in folders)
    first = captures[0]
    for number, other in enumerate(captures):
        ours, theirs = _made_with(first), _made_with(other)
        for key in ours:
            if key in theirs and ours[key] != theirs[key]:
                raise UserError(
                    f"{first.folder} and {other.folder} cannot be trained on together: {key} is {ours[key]} in the "
                    f"first, {theirs[key]} in the second; prepare both videos with the same settings"
                )
        for earlier in captures[:number]:
            if earlier.manifest["manifest_sha256"] == other.manifest["manifest_sha256"]:
                raise UserError(f"{other.folder} is the same capture as {earlier.folder}; give each once")
    count = sum(len(capture.train_indices) for capture in captures)
    if count < MIN_FRAMES:
        what = f"{first.folder} has" if len(captures) == 1 else f"{', '.join(str(c.folder) for c in captures)} have"
        raise UserError(
            f"{what} {count} frames with a face to train on; at least {MIN_FRAMES} are needed, some hundreds are "
            "advised"
        )
    return captures


def _made_with(capture: Capture) -> dict[str, object]:
    """What decides how pictures, maps and their labels look: size, names, and hashes of the models behind the names."""
    models = {f"models.{name}": digest for name, digest in capture.manifest.get("models", {}).items()}
    return {key: capture.manifest[key] for key in ("size", "face_model", "parser")} | models


def describe(capture: Capture) -> dict:
    """What an avatar records of a capture that it was trained on."""
    return {
        "path": str(capture.folder.resolve()),
        "manifest_sha256": capture.manifest["manifest_sha256"],
        "size": capture.size,
        "face_model": capture.manifest["face_model"],
        "parser": capture.manifest["parser"],
    }


def labels_of(captures: Sequence[Capture]) -> list[str]:
    """The labels that the training frames' parsing maps have: Stage I may make no others."""
    missing = dict(zip(LABELS, _packed(PALETTE), strict=True))
    for capture in captures:
        for index in capture.train_indices:
            packed = _packed(capture.parsing([index])[0])
            # A colour that was found is not looked for again: of a long capture, most of the time goes into reading.
            missing = {name: color for name, color in missing.items() if not (packed == color).any()}
    return [name for name in LABELS if name not in missing]


def _packed(colors: np.ndarray) -> np.ndarray:
    """Colours uint8 [..., 3] as one number each, int32 [...]."""
    return colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
