"""The settings of a render."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from svp_jax.errors import UserError, outside


@dataclass(frozen=True)
class RenderOptions:
    """What `render` does; every field is a flag of `svp render`. `render.json` records all but this machine's paths.

    Raises:
        UserError: a value outside what is allowed, or two values that contradict each other.
    """

    frames: str = "test"
    """Frames of the driver: test, train, all, or a:b (from a, up to but not including b)."""
    stage: Literal["both", "outlines"] = "both"
    """Both stages, or only the parsing maps of the first."""
    maps: Literal["stage1", "driver"] = "stage1"
    """Where the second stage's parsing maps come from: made by the first stage, or the driver's own."""
    motion: Literal["auto", "absolute", "relative"] = "auto"
    """Of a driving capture: its condition images as they are (absolute), or its motion relative to each person's
    neutral face (relative). auto: absolute for the capture that the avatar was trained on, relative for others."""
    set: tuple[str, ...] = ()
    """Fixes a channel of the face model in all frames, as NAME=VALUE, such as jawOpen=0.5 (docs/control.md)."""
    face_model_file: Path | None = None
    """Where the face model of an avatar of ict or flame lies, or a driver's where the avatar's is made of its clip;
    looked for where the other model files are if not given."""
    unet: Literal["tuned", "base"] = "tuned"
    """The second stage's UNet and VAE: as trained for the avatar, or the base's own (to morph by text)."""
    prompt: str | None = None
    """Text of the second stage; the avatar's own where not given."""
    negative_prompt: str = ""
    """Text that guidance leads away from; without effect at guidance 1."""
    guidance: float = 1.0
    """Classifier-free guidance of the second stage; 1 = none, above 1 takes twice the time."""
    strength: float = 1.0
    """Factor of the second stage's control: low favours the text, high the original person."""
    steps: int | None = None
    """Denoising steps of each stage; as many as the avatar's previews had where not given."""
    eta: float = 0.0
    """Fresh noise per step: 0 = DDIM, 1 = as much as DDPM."""
    current: float | None = None
    """Temporal weight of the current frame; the avatar's where not given, as for the next three."""
    previous: float | None = None
    """Temporal weight of the previous frame."""
    noise: float | None = None
    """Temporal weight of the noise."""
    tau: float | None = None
    """When the previous frame is mixed in: 0 = the first, noisiest step, 1 = the last."""
    tau_end: float | None = None
    """Mixes it in at all steps from tau to here; at one step only where not given."""
    noise_per_frame: bool = False
    """Start every frame from its own noise, not all from the same."""
    seed: int = 0
    """Seed of all noise."""
    chunk: int = 16
    """At most this many frames at a time on the device."""
    batch: int = 4
    """Frames that go through the networks together, up to the step that looks at the frame before; more need more
    memory."""
    label: bool = False
    """Write "AI-generated" into a corner of avatar.mp4; the mark in its metadata is always there."""
    base: Path | None = None
    """Where the avatar's base lies now; where it lay in training if not given."""
    force: bool = False
    """Replace a finished result."""

    def __post_init__(self):
        _check("steps", self.steps, 1, 1000)
        _check("chunk", self.chunk, 1, math.inf)
        _check("batch", self.batch, 1, math.inf)
        _check("seed", self.seed, 0, 2**32 - 1)
        _check("guidance", self.guidance, 1, math.inf)
        _check("strength", self.strength, 0, math.inf)
        _check("eta", self.eta, 0, 1)
        for name in ("current", "previous", "noise"):
            _check(name, getattr(self, name), -math.inf, math.inf)
        _check("tau", self.tau, 0, 1)
        _check("tau-end", self.tau_end, 0, 1)
        if self.stage == "outlines" and self.maps == "driver":
            raise UserError("--stage outlines only makes parsing maps, --maps driver makes none; leave one out")
        for name in ("prompt", "negative_prompt", "guidance", "strength", "unet", "label"):
            if self.stage == "outlines" and getattr(self, name) != getattr(type(self), name):
                raise UserError(
                    f"--{name.replace('_', '-')} belongs to the second stage, which --stage outlines leaves out; "
                    "leave one of the two out"
                )
        if self.negative_prompt and self.guidance == 1:
            raise UserError("--negative-prompt has no effect at --guidance 1; raise it, 7.5 is usual")


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and (problem := outside(value, low, high)):
        raise UserError(f"--{name} {value}: {problem}")
