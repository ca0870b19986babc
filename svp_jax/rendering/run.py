"""What a run of `svp render` renders: the avatar's videos, each of a driver with a text and a strength."""

from dataclasses import asdict, dataclass
from pathlib import Path

from svp_jax.errors import UserError
from svp_jax.manifest import sha256_file
from svp_jax.rendering.control import open_driver
from svp_jax.rendering.driver import Driver
from svp_jax.rendering.fit import check_fit
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.plan import Plan, plan_frames
from svp_jax.rendering.prompts import Text, read_text
from svp_jax.rendering.sweep import variants

# Options that say nothing about the result, or that what is recorded besides says better.
_NOT_RECORDED = ("force", "base", "face_model_file", "also", "prompt_timeline")


@dataclass(frozen=True)
class Video:
    """One video of a run.

    Attributes:
        name: of its folder; "" where there is one video alone.
        driver: what moves the avatar. plan: its frames.
        options: of the run, but for this video's own prompt and strength.
        text: as the options and the avatar say.
    """

    name: str
    driver: Driver
    plan: Plan
    options: RenderOptions
    text: Text

    @property
    def label(self) -> str:
        """What stands beside it in overviews."""
        name = self.name.replace("_", " ")
        return name if self.options.prompt is None or "prompt" not in name else f"{name}: {self.options.prompt}"


@dataclass(frozen=True)
class Run:
    """All videos of a run, and what they have in common.

    Attributes:
        temporal: arguments of `TemporalWeights`.
    """

    avatar: dict
    options: RenderOptions
    temporal: dict[str, float | None]
    videos: list[Video]

    @property
    def face_model_sha256(self) -> str | None:
        """Of the file that --face-model-file gives."""
        path = self.options.face_model_file
        return None if path is None else sha256_file(path)

    def identity(self) -> dict:
        """What decides how the pictures look: an unfinished render goes on with the same."""
        return {
            "avatar": self.avatar["manifest_sha256"],
            "videos": [
                {
                    "name": video.name,
                    "driver": video.driver.sha256,
                    "frames": [video.plan.span.start, video.plan.span.stop],
                    "text": asdict(video.text),
                    "strength": video.options.strength,
                }
                for video in self.videos
            ],
            "settings": recorded(self.options),
            "face_model_file": self.face_model_sha256,
            "temporal": self.temporal,
        }


def open_run(avatar: Path, manifest: dict, drivers: list[Path], options: RenderOptions) -> Run:
    """Opens the drivers and checks that all goes together.

    Args:
        avatar: its folder, with `manifest`.
        options: with all that a preset says.

    Raises:
        UserError: bad input, named.
    """
    videos, temporal = [], _temporal(manifest, options)
    for number, path in enumerate(drivers, start=1):
        driver = open_driver(avatar, manifest, path, options)
        plan = plan_frames(driver, options.frames)
        check_fit(avatar, manifest, driver, options)
        for name, own in variants(options).items():
            # Two drivers may have the same name.
            names = [f"driver_{number}_{Path(path).stem}"] if len(drivers) > 1 else []
            text = read_text(own, manifest["prompt"])
            videos.append(Video("_".join([*names, name] if name else names), driver, plan, own, text))
    return Run(manifest, options, temporal, videos)


def recorded(options: RenderOptions) -> dict:
    """The options as render.json has them."""
    return {key: value for key, value in asdict(options).items() if key not in _NOT_RECORDED}


def _temporal(manifest: dict, options: RenderOptions) -> dict[str, float | None]:
    """The avatar's temporal weights, but for those that the options give."""
    names = ("current", "previous", "noise", "tau", "tau_end")
    given = {name: getattr(options, name) for name in names}
    settings = manifest["temporal"] | {name: value for name, value in given.items() if value is not None}
    tau, tau_end = settings["tau"], settings.get("tau_end")
    if tau_end is not None and tau_end < tau:
        raise UserError(f"--tau-end {tau_end}: allowed are {tau} (--tau, else the avatar's) to 1")
    return settings
