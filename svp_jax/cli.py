"""`svp`: parses the command line, calls one function, prints one line on error."""

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from svp_jax.errors import OUT_OF_MEMORY, Stopped, UserError
from svp_jax.flags import flags_of, parsed


def _path(name: str) -> object:
    """The type of a path that is given by its place, called `name` in the help."""
    return Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar=name)]


def _paths(name: str) -> object:
    """The type of one or several paths that are given by their place."""
    look = tyro.conf.arg(metavar=f"{name} [{name} ...]", help_behavior_hint="(required)")
    return Annotated[tuple[Path, ...], tyro.conf.Positional, look]


def _optional(kind: type, name: str, default: str) -> object:
    """The type of a flag that may be left out; `default` tells in the help what holds then."""
    return Annotated[kind | None, tyro.conf.arg(metavar=name, help_behavior_hint=f"(default: {default})")]


def train(
    captures: _paths("CAPTURE"),
    base: str,
    out: Path,
    config: _optional(Path, "PATH", "the values of TrainConfig") = None,
    stage: Literal["outlines", "details", "both"] = "both",
    steps: _optional(int, "INT", "the config's") = None,
    save_every: _optional(int, "INT", "the config's") = None,
    batch_size: _optional(int, "INT", "the config's") = None,
    accumulation: _optional(int, "INT", "the config's") = None,
    precision: _optional(Literal["float32", "bfloat16"], "float32|bfloat16", "the config's") = None,
    remat: _optional(Literal["none", "light", "full"], "none|light|full", "the config's") = None,
    parallel: _optional(Literal["pmap", "fsdp"], "pmap|fsdp", "the config's") = None,
    device: _optional(Literal["any", "gpu", "cpu"], "any|gpu|cpu", "the config's") = None,
    prompt: _optional(str, "TEXT", "the config's, else the first capture's") = None,
    seed: _optional(int, "INT", "the config's") = None,
    coordinator: _optional(str, "HOST:PORT", "what SLURM, Open MPI or Kubernetes tell") = None,
    processes: _optional(int, "INT", "as --coordinator") = None,
    process: _optional(int, "INT", "as --coordinator") = None,
    force: bool = False,
) -> None:
    """Trains an avatar on one or more captures of a person; an interrupted run goes on when it is called again.

    While it runs, OUT.partial/training/ holds the previews and OUT.partial/work/ the logs.

    Args:
        captures: folders made by `svp prepare` with the same settings; the first one's face is what scripts move.
        out: folder of the avatar.
        base: Stable Diffusion, as a folder in the diffusers layout or as a single file; or "tiny", the embedded one.
        config: a preset such as configs/sd15.yaml. The flags below override it.
        stage: which of the two models to train.
        steps: optimizer steps of each stage. The VAE pass, and stages of different length, are the config's.
        save_every: steps between checkpoints.
        batch_size: images per step, over all devices and accumulated parts together.
        accumulation: parts that a step's batch is taken in one after the other, for less memory.
        precision: what the networks compute in; bfloat16 is faster and smaller on GPUs.
        remat: what is computed again in the backward pass instead of being kept: less memory, more time.
        parallel: pmap, or fsdp, which shares the parameters out over the devices.
        device: what to train on; it is an error where there is none.
        prompt: text that describes the person.
        seed: of all randomness.
        coordinator: of a run of several processes, where number 0 listens; see docs/scaling.md.
        processes: how many processes there are.
        process: number of this one, from 0.
        force: replace a finished avatar.
    """
    from svp_jax.training.hosts import connect, is_first

    connect(coordinator, processes, process)
    if not is_first():
        # The first one says it.
        warnings.simplefilter("ignore", UserWarning)
    from svp_jax.training.config import TrainConfig, load_config
    from svp_jax.training.train import train as run

    settings = load_config(config) if config else TrainConfig()
    given = dict(
        save_every=save_every, batch_size=batch_size, accumulation=accumulation, precision=precision, remat=remat,
        parallel=parallel, device=device, prompt=prompt, seed=seed,
    )  # fmt: skip
    settings = dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})
    if steps is not None:
        settings = dataclasses.replace(
            settings,
            outlines=dataclasses.replace(settings.outlines, steps=steps),
            details=dataclasses.replace(settings.details, steps=steps),
        )
    run(captures, base, out, settings, stage, force)
    if is_first():
        print(f"wrote the avatar {out}")


def evaluate(
    videos: _paths("VIDEO"),
    out: Path,
    reference: _optional(Path, "PATH", "the last VIDEO") = None,
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GROUP ...", help_behavior_hint="(default: all)")] = (),
    force: bool = False,
) -> None:
    """Scores renders, captures or video files against a reference, beside two baselines and the ceiling.

    Args:
        videos: what is scored, each a render, a capture or a video file; without --reference the last one is the truth.
        out: folder of the report.
        reference: the truth: a capture, a render or a video file. Baselines need a capture.
        metrics: what is measured, some of pictures (PSNR, SSIM, MSE, L1, smoothness, flicker), scales (MS-SSIM), motion
            (optical flow), lpips_alex, lpips_vgg, distribution (FID, KID) and tracking (landmarks, expression, pose,
            parsing); everything whose weights are there if not given.
        force: replace a finished report.
    """
    from svp_jax.metrics.evaluate import evaluate as run
    from svp_jax.metrics.evaluate import summary
    from svp_jax.metrics.measured import GROUPS

    if len(videos) < (2 if reference is None else 1):
        raise UserError(
            "give what is scored and its reference: svp evaluate RENDER REFERENCE --out REPORT, or with --reference "
            "REFERENCE one or several RENDERs"
        )
    if reference is None:
        *videos, reference = videos
    run(videos, reference, out, force, metrics or tuple(GROUPS))
    print(summary(out))
    print(f"wrote the report {out}; open {out / 'report.html'}")


def demo(out: Path, seed: int = 0, force: bool = False) -> None:
    """The whole main job on the embedded default: synthetic capture, training, renders, morph, report.

    Args:
        out: folder of the results; its README.md says what each is.
        seed: another one is another person.
        force: replace finished results.
    """
    from svp_jax.demo import demo as run

    print(run(out, seed, force))
    print(f"wrote the demo {out}")


def convert(
    source: _path("SOURCE"),
    target: _path("TARGET"),
    stage: _optional(Literal["outlines", "details"], "outlines|details", "details") = None,
    dtype: _optional(Literal["float32", "float16", "bfloat16"], "float32|float16|bfloat16", "the source's") = None,
    ema: bool = False,
    prediction: _optional(Literal["epsilon", "v_prediction"], "epsilon|v_prediction", "as it says or looks") = None,
    variant: _optional(str, "NAME", "the files without one") = None,
    base: _optional(str, "BASE", "where it lay in training") = None,
    vae: _optional(Path, "PATH", "the source's") = None,
    tokenizer: _optional(Path, "PATH", "clip_tokenizer in the folders of model files") = None,
    bare: bool = False,
    avatar: _optional(tuple[Path, ...], "[FILE ...]", "off") = None,
    transfer: Annotated[
        tuple[str, str], tyro.conf.arg(metavar="OLD_BASE NEW_BASE", help_behavior_hint="(default: off)")
    ] = ("", ""),
    unet: bool = False,
) -> None:
    """Converts weights between diffusers folders and single files, both ways; moves avatars to other bases.

    Args:
        source: a single file (.safetensors, .ckpt, .pth, .pt, .bin), a base's folder or "tiny", the folder of one
            network, or an avatar.
        target: a new folder, or a file that ends in .safetensors.
        stage: of an avatar, the one to take.
        dtype: of the tensors in the target.
        ema: of a file with both, take the running average of the UNet's weights, not the last ones.
        prediction: what the UNet of a single file predicts.
        variant: of a folder, take the weight files with this in their names, such as fp16 or non_ema.
        base: of an avatar, where its base lies now.
        vae: a file or folder whose VAE takes the place of the source's.
        tokenizer: folder with CLIP's vocab.json and merges.txt, for a folder that is made of a single file.
        bare: write one network into a file without its prefix.
        avatar: SOURCE, and these files, are what an avatar's stages were exported to; TARGET becomes the avatar again.
        transfer: SOURCE is an avatar of OLD_BASE; TARGET becomes the same on NEW_BASE, of the same family, by adding
            the difference of the bases to its ControlNets.
        unet: with --transfer, move the tuned UNets too.
    """
    options = dict(
        stage=stage, dtype=dtype, ema=ema, prediction=prediction, variant=variant, base=base, vae=vae,
        tokenizer=tokenizer, bare=bare,
    )  # fmt: skip
    if avatar is not None or any(transfer):
        mode = "--avatar" if avatar is not None else "--transfer"
        others = options | ({"transfer": any(transfer), "unet": unet} if avatar is not None else {})
        for name, given in others.items():
            if given:
                raise UserError(f"--{name} has no meaning with {mode}; leave it out")
    elif unet:
        raise UserError("--unet is for --transfer; leave it out")
    if any(transfer):
        from svp_jax.weights.transfer import transfer as run

        run(*transfer, source, target, unet)
        print(f"wrote the avatar {target}")
    elif avatar is not None:
        from svp_jax.weights.exported import avatar_of_files

        avatar_of_files([source, *avatar], target)
        print(f"wrote the avatar {target}")
    else:
        from svp_jax.weights.convert import convert as run

        print(f"{source} is {run(source, target, **options)}")
        print(f"wrote {target}")


def assets(
    fetch: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE ...", help_behavior_hint="(default: none)")] = (),
    mirror: _optional(Path, "PATH", "the network") = None,
    accept_non_commercial: bool = False,
) -> None:
    """Lists the files that the program can use and does not bring along; fetches and verifies them.

    They go into $SVP_MODELS where it is set, else into ~/.cache/svp_jax, and are looked for in both.

    Args:
        fetch: files of the list, or a folder of it such as clip_tokenizer or lpips.
        mirror: a local folder with the same paths, to take them from.
        accept_non_commercial: fetch files whose licence forbids commercial use too.
    """
    from svp_jax import downloads

    if not fetch:
        print(*downloads.listing(), sep="\n")
        return
    for path in downloads.fetch(fetch, mirror, accept_non_commercial):
        print(f"there is {path}")


def inspect(path: _path("PATH")) -> None:
    """Prints what a base, capture, avatar, render, report or file of weights is, and what is wrong with it.

    Args:
        path: the folder or file.
    """
    from svp_jax.inspect import inspect as run

    problems = run(path)
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")


def _prepare_command() -> Callable[..., None]:
    """`svp prepare`, whose flags are the fields of PrepareOptions; built late because of what that imports."""
    from svp_jax.capture.options import PrepareOptions

    def prepare(
        video: _path("VIDEO"),
        out: Path,
        options: Annotated[flags_of(PrepareOptions), tyro.conf.arg(name="")],
    ) -> None:
        """Makes a capture of a video: crop, face tracking, parsing maps, condition images, quality report.

        Args:
            video: any file that FFmpeg reads; or a capture, to give it another --face-model.
            out: folder of the capture.
            options: how.
        """
        if video.is_dir():
            from svp_jax.capture.refit import refit as run
        else:
            from svp_jax.capture.prepare import prepare as run

        run(video, out, options)
        print(f"wrote the capture {out}")

    return prepare


def _render_command() -> Callable[..., None]:
    """`svp render`, whose flags are the fields of RenderOptions; built late because of what that imports."""
    from svp_jax.rendering.options import RenderOptions

    def render(
        avatar: _path("AVATAR"),
        driver: _path("DRIVER"),
        out: Path,
        options: Annotated[flags_of(RenderOptions), tyro.conf.arg(name=""), tyro.conf.UseAppendAction],
    ) -> None:
        """Renders an avatar as its driver moves: avatar.mp4, frames/, parsing/, side_by_side.mp4.

        Args:
            avatar: folder made by `svp train`.
            driver: a capture, of the same person or of another; a script of keyframes (.csv, .yaml); or a file of
                parameters (face.npz of a capture). See docs/control.md.
            out: folder of the render.
            options: how.
        """
        from svp_jax.rendering.render import render as run

        run(avatar, driver, out, options)
        print(f"wrote the {'renders in' if options.also or options.sweep else 'render'} {out}")

    return render


def _ablate_command() -> Callable[..., None]:
    """`svp ablate`, whose flags are the fields of AblationOptions; built late because of what that imports."""
    from svp_jax.ablation.options import AblationOptions

    def ablate(
        avatar: _path("AVATAR"),
        capture: _path("CAPTURE"),
        out: Path,
        options: Annotated[flags_of(AblationOptions), tyro.conf.arg(name=""), tyro.conf.UseAppendAction],
    ) -> None:
        """Renders and scores a grid of temporal weights and other settings; names the best ones.

        Args:
            avatar: folder made by `svp train`.
            capture: of the same person; its held-out frames are rendered and are the truth.
            out: folder of the report: heat maps, the front of smoothness and picture distance, metrics.json.
            options: how. See docs/ablation.md.
        """
        from svp_jax.ablation.ablate import ablate as run
        from svp_jax.ablation.report import table
        from svp_jax.manifest import read_manifest

        run(avatar, capture, out, options)
        print(table(read_manifest(out, "report")))
        print(f"wrote the report {out}; open {out / 'report.html'}")

    return ablate


def main() -> None:
    """Entry point: exit code 0 on success, 2 with one line on bad input."""
    warnings.showwarning = _one_line_warning
    _quiet_libraries()
    try:
        _parse(sys.argv[1:])()
    except UserError as error:
        _fail(str(error))
    except (OSError, ImportError) as error:
        if re.search(r"lib(GL|EGL|GLESv2|gthread-2\.0|glib-2\.0)\.so", str(error)):
            _fail(f"{error}; on Debian and Ubuntu: apt-get install libgl1 libegl1 libgles2 libglib2.0-0")
        if isinstance(error, ImportError):
            raise
        # A full disk and the like; the message of the system names the file.
        _fail(f"{error.strerror or error}: {error.filename or 'while reading or writing'}")
    except RuntimeError as error:
        # XLA has one class for all that fails while it runs.
        if OUT_OF_MEMORY not in str(error):
            raise
        _fail(
            "the device is out of memory; train with --accumulation or --remat full, render with a lower --batch or "
            "--chunk"
        )
    except Stopped as stop:
        from svp_jax.training.hosts import is_first

        if is_first():
            print(f"svp: {stop}; the same command goes on", file=sys.stderr)
        # As a shell reports a program that a signal ended.
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("svp: interrupted; the same command goes on where it can", file=sys.stderr)
        sys.exit(130)


def _parse(arguments: list[str]) -> Callable[[], None]:
    """The command with its arguments, not yet called; --help prints and exits here.

    Raises:
        UserError: an unknown command, or arguments that do not fit it.
    """
    commands = {
        "demo": demo,
        "prepare": _prepare_command(),
        "train": train,
        "render": _render_command(),
        "evaluate": evaluate,
        "ablate": _ablate_command(),
        "convert": convert,
        "assets": assets,
        "inspect": inspect,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: svp COMMAND --help\n")
        for name, command in commands.items():
            print(f"  svp {name:<9} {command.__doc__.splitlines()[0]}")
        sys.exit(0)
    name, rest = arguments[0], arguments[1:]
    if name not in commands:
        raise UserError(f"unknown command {name!r}; allowed are {', '.join(commands)}")

    return parsed(commands[name], f"svp {name}", rest)


def _quiet_libraries() -> None:
    """Logs of the libraries below are noise to a user; a cache on disk saves compiling again."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GLOG_minloglevel", "3")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "svp_jax" / "compiled"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


def _one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, UserWarning):
        print(f"svp: warning: {message}", file=sys.stderr)


def _fail(message: str) -> None:
    print(f"svp: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
