"""How much time a frame may take: presets of the settings that make a render faster, and what each of them costs.

The figures that they were chosen by are in docs/benchmarks.md (tools/measure_speed.py).
"""

import dataclasses
import math

from svp_jax.rendering.options import RenderOptions

# Share of the avatar's own number of denoising steps, then `reuse` and `begin` of RenderOptions.
PRESETS = {
    "best": (1.0, 1, 0.0),
    "standard": (0.5, 2, 0.0),
    "draft": (0.25, 2, 0.0),
}


def with_preset(options: RenderOptions, avatar_steps: int) -> RenderOptions:
    """`options` with what the preset says of the settings that are not given.

    Args:
        avatar_steps: denoising steps of the avatar's previews.
    """
    share, reuse, begin = PRESETS[options.quality]
    preset = {"steps": math.ceil(share * avatar_steps), "reuse": reuse, "begin": 0.0 if options.segments > 1 else begin}
    return dataclasses.replace(
        options, **{name: value for name, value in preset.items() if getattr(options, name) is None}
    )
