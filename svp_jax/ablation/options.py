"""The settings of an ablation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from svp_jax.rendering.options import RenderOptions


@dataclass(frozen=True)
class AblationOptions:
    """What `ablate` does; every field is a flag of `svp ablate`.

    Raises:
        UserError: a value outside what is allowed.
    """

    grid: tuple[str, ...] = ()
    """An axis and its values, once for each axis: previous=0:0.6:4 or tau=0.5|0.8; axes are current, previous, noise,
    tau, strength and steps, and all their combinations are rendered. current=rest stands for 1 - previous. What is no
    axis is as svp render would have it. Without this, 32 renders: current=0.4:1:4, previous=0:0.6:4, noise=0.9|1."""
    frames: str = RenderOptions.frames
    """Frames of the capture: test, train, all, or a:b (from a, up to but not including b)."""
    maps: Literal["stage1", "driver"] = RenderOptions.maps
    """stage1: the temporal weights and steps hold for both stages, as in a render. driver: the second stage alone is
    tried, on the capture's own parsing maps."""
    noise_per_frame: bool = RenderOptions.noise_per_frame
    """Start every frame from its own noise, not all from the same."""
    seed: int = RenderOptions.seed
    """Seed of all noise, the same for all points."""
    precision: Literal["float32", "bfloat16"] = RenderOptions.precision
    """What the UNets and ControlNets compute in; bfloat16 is faster on GPUs."""
    chunk: int = RenderOptions.chunk
    """At most this many frames at a time on the device."""
    batch: int = RenderOptions.batch
    """Frames that go through the networks together, up to the step that looks at the frame before."""
    base: Path | None = None
    """Where the avatar's base lies now; where it lay in training if not given."""
    write_best: bool = False
    """Write the best temporal weights into the avatar, where renders take them from. With the settings of a finished
    report nothing is rendered again."""
    keep_renders: bool = False
    """Keep all renders, in REPORT/renders."""
    force: bool = False
    """Replace a finished report."""

    def __post_init__(self):
        self.render_options()

    def render_options(self) -> RenderOptions:
        """Those of all points' renders: the capture's own motion, since its frames are the reference."""
        same = ("frames", "maps", "noise_per_frame", "seed", "precision", "chunk", "batch", "base")
        return RenderOptions(motion="absolute", **{name: getattr(self, name) for name in same})
