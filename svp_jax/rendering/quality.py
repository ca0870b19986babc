"""How much time a frame may take: presets of the settings that make a render faster.

They were chosen by the measured table in docs/benchmarks.md (tools/measure_speed.py).
"""

import dataclasses
import math
from typing import NamedTuple

from svp_jax.rendering.options import RenderOptions


class Preset(NamedTuple):
    steps: float  # share of the avatar's own number of denoising steps
    reuse: int


PRESETS = {
    "best": Preset(steps=1.0, reuse=1),
    "standard": Preset(steps=0.5, reuse=2),
    "draft": Preset(steps=0.25, reuse=2),
}


def with_preset(options: RenderOptions, avatar_steps: int) -> RenderOptions:
    """`options` with what the preset says of the settings that are not given.

    Args:
        avatar_steps: denoising steps of the avatar's previews.
    """
    preset = PRESETS[options.quality]
    settings = {
        "steps": math.ceil(preset.steps * avatar_steps),
        "reuse": preset.reuse,
    }
    return dataclasses.replace(
        options, **{name: value for name, value in settings.items() if getattr(options, name) is None}
    )
