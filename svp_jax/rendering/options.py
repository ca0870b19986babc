"""The settings of a render."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from svp_jax.errors import UserError, outside

SECOND_STAGE = (
    "prompt",
    "prompt_timeline",
    "negative_prompt",
    "guidance",
    "guidance_start",
    "guidance_end",
    "strength",
    "control_start",
    "control_end",
    "unet",
    "label",
)


@dataclass(frozen=True)
class RenderOptions:
    """What `render` does; every field is a flag of `svp render`. `render.json` records all but paths.

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
    unet: str = "tuned"
    """The second stage's UNet and VAE: tuned, as trained for the avatar; base, the base's own (to morph by text); or a
    number from 0 (base) to 1 (tuned) that mixes their weights."""
    prompt: str | None = None
    """Text of the second stage; the avatar's own where not given."""
    prompt_timeline: Path | None = None
    """A .csv with the columns seconds and prompt: texts that go over into each other during the video."""
    negative_prompt: str = ""
    """Text that guidance leads away from; without effect at guidance 1."""
    guidance: float = 1.0
    """Classifier-free guidance of the second stage; 1 = none, above 1 takes twice the time."""
    guidance_start: float = 0.0
    """Guides from this fraction of the denoising steps on; steps without guidance take half the time."""
    guidance_end: float = 1.0
    """Guides up to this fraction of the denoising steps."""
    strength: float = 1.0
    """Factor of the second stage's control: low favours the text, high the original person."""
    control_start: float = 0.0
    """Controls the second stage from this fraction of the denoising steps on."""
    control_end: float = 1.0
    """Controls the second stage up to this fraction of the denoising steps."""
    outlines_strength: float = 1.0
    """Factor of the first stage's control."""
    quality: Literal["best", "standard", "draft"] = "best"
    """How much time a frame may take: sets --steps and --reuse where they are not given."""
    steps: int | None = None
    """Denoising steps of each stage; by --quality where not given, at best as many as the avatar's previews had."""
    reuse: int | None = None
    """Computes the ControlNet and the UNet's coarse levels only at every so many steps, and reuses them between; 1 = at
    all."""
    begin: float = 0.0
    """Frames begin at this fraction of the denoising steps, from the previous frame's picture; 0 = from noise alone."""
    still: float = 0.0
    """Takes the first stage's last map again while its condition differs by less, in grey levels on average; 0 = never.
    """
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the UNets and ControlNets compute in; bfloat16 is faster on GPUs."""
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
    """At most this many frames of a video at a time on the device, for each stage."""
    batch: int = 4
    """Frames that go through the networks together, up to the step that looks at the frame before; more need more
    memory."""
    also: tuple[Path, ...] = ()
    """Further drivers, rendered in the same run; --out then holds a folder for each."""
    sweep: str | None = None
    """A setting in several values, rendered in the same run: strength=0.2:1.4:7, strength=0.4|1 or prompt=TEXT|TEXT;
    --out then holds a folder for each, a contact sheet and a grid of videos."""
    segments: int = 1
    """Renders so many parts of the video side by side, spread over the devices."""
    tolerance: float = 0.01
    """Largest difference of a segment from what one sequence would give, in standard deviations of the latents: decides
    on how many frames before it a segment is warmed up."""
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
        _check("outlines-strength", self.outlines_strength, 0, math.inf)
        for name in ("guidance", "control"):
            start, end = getattr(self, f"{name}_start"), getattr(self, f"{name}_end")
            _check(f"{name}-start", start, 0, 1)
            _check(f"{name}-end", end, 0, 1)
            if start >= end:
                raise UserError(f"--{name}-start {start}: allowed is less than --{name}-end, {end}")
        _check("eta", self.eta, 0, 1)
        _check("reuse", self.reuse, 1, 1000)
        _check("begin", self.begin, 0, 0.99)
        _check("still", self.still, 0, 255)
        _check("segments", self.segments, 1, math.inf)
        _check("tolerance", self.tolerance, 1e-6, 1)
        if self.tuned_share is None:
            raise UserError(f"--unet {self.unet}: allowed are tuned, base, or a number from 0 (base) to 1 (tuned)")
        for name in ("current", "previous", "noise"):
            _check(name, getattr(self, name), -math.inf, math.inf)
        _check("tau", self.tau, 0, 1)
        _check("tau-end", self.tau_end, 0, 1)
        if self.stage == "outlines" and self.maps == "driver":
            raise UserError("--stage outlines only makes parsing maps, --maps driver makes none; leave one out")
        for name in SECOND_STAGE:
            if self.stage == "outlines" and self._given(name):
                raise UserError(
                    f"--{name.replace('_', '-')} belongs to the second stage, which --stage outlines leaves out; "
                    "leave one of the two out"
                )
        for name in ("negative_prompt", "guidance_start", "guidance_end"):
            if self.guidance == 1 and self._given(name):
                raise UserError(f"--{name.replace('_', '-')} has no effect at --guidance 1; raise it, 7.5 is usual")
        for name in ("outlines_strength", "still"):
            if self.maps == "driver" and self._given(name):
                raise UserError(
                    f"--{name.replace('_', '-')} belongs to the first stage, which --maps driver leaves out; drop one"
                )
        if self.segments == 1 and self._given("tolerance"):
            raise UserError("--tolerance says how exactly --segments fit together; give both or neither")
        if self.segments > 1 and (self.also or self.sweep):
            raise UserError("--segments spreads one video over the devices, --also and --sweep several; drop one")
        if self.sweep and self.stage == "outlines":
            raise UserError("--sweep belongs to the second stage, which --stage outlines leaves out; drop one")
        swept = (self.sweep or "").partition("=")[0]
        if swept in ("strength", "prompt") and self._given(swept):
            raise UserError(f"--sweep {swept}=... gives the values of --{swept}; leave one of the two out")
        if swept == "prompt" and self.prompt_timeline is not None:
            raise UserError("--sweep prompt=... and --prompt-timeline both say the text; leave one of the two out")
        if self.prompt is not None and self.prompt_timeline is not None:
            raise UserError("--prompt and --prompt-timeline both say the text; leave one of the two out")
        if self.segments > 1 and self.begin:
            raise UserError(
                "--begin makes each frame of the one before, so --segments cannot start in between; drop one"
            )
        if self.segments > 1 and self.still:
            raise UserError("--still depends on all frames before, so --segments cannot start in between; drop one")

    def _given(self, name: str) -> bool:
        return getattr(self, name) != getattr(type(self), name)

    @property
    def tuned_share(self) -> float | None:
        """0 is the base's UNet, 1 the avatar's; None where `unet` says neither."""
        try:
            share = {"tuned": 1.0, "base": 0.0}.get(self.unet)
            share = float(self.unet) if share is None else share
        except ValueError:
            return None
        return share if 0 <= share <= 1 else None


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and (problem := outside(value, low, high)):
        raise UserError(f"--{name} {value}: {problem}")
