"""A picture of every expression channel of a fitted face model, to see what each one moves on this person."""

from pathlib import Path

import numpy as np

from svp_jax.capture.face_track import FaceTrack, draw_track
from svp_jax.capture.images import caption, write_sheet
from svp_jax.face.control.retarget import neutral_of
from svp_jax.face.morphable.model import FaceModel

CHANNELS = "channels.png"
_COLUMNS, _TILE, _CAPTION = 8, 160, 20


def write_channel_sheet(path: Path, model: FaceModel, track: FaceTrack, size: int) -> None:
    """Writes the person at rest, then with one channel after the other at the upper end of its range.

    Args:
        size: of the capture's images.
    """
    rest = neutral_of(track.parameters, track.usable)
    shown = rest.frames(np.zeros(1 + len(model.channels), int))
    for index in range(len(model.channels)):
        shown.expression[1 + index, index] = model.limits[1]
    drawn = draw_track(model, shown, track.camera.scaled(_TILE / size), _TILE)
    tiles = [
        np.concatenate([caption(name, _TILE, _CAPTION), geometry])
        for name, (geometry, _) in zip(("neutral", *model.channels), drawn, strict=True)
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    write_sheet(path, [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)])
