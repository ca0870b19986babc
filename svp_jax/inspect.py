"""`svp inspect`: what a base, capture, avatar, render, report or file of weights is, and what is wrong with it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import jax
from flax import nnx

from svp_jax.ablation.report import table
from svp_jax.capture.capture import open_capture
from svp_jax.errors import UserError
from svp_jax.manifest import DEMO_PROGRESS, FILE_NAMES, partial_folder, read_manifest
from svp_jax.metrics.evaluate import summarized
from svp_jax.rendering.render import content_hashes
from svp_jax.weights.avatar import part_hashes
from svp_jax.weights.base import base_path, load_base, networks_of
from svp_jax.weights.folder import load_model
from svp_jax.weights.single_file import open_single_file
from svp_jax.weights.tensors import check_finite

BASE_INDEX, MODEL_CONFIG = "model_index.json", "config.json"
LONGEST_LIST = 8
# Of a report, what its summary says or what is long; all of it is in metrics.json.
SUMMARIZED = ("scores", "differences", "frames", "per_frame", "left_out", "protocol")


def inspect(path: Path) -> list[str]:
    """Prints a summary of what lies at `path`; returns what is wrong with it, a line each, nothing if all is well.

    Files are compared with the hashes that the manifest has of them, so all of them are read; of reports and demos,
    which record none, they need only be there. Weights are opened where no hash vouches for them.

    Raises:
        UserError: `path` is none of the folders that this program knows, and no file.
    """
    path = base_path(path)
    if path.is_file():
        return _inspect_file(path)
    kind = _kind(path)
    print(f"{kind} {path}")
    if kind == "base":
        return _inspect_base(path)
    if kind == "model":
        return _inspect_models(path, ("",))
    problem = None
    try:
        manifest = read_manifest(path, kind)
    except UserError as error:
        # What can be read is shown all the same.
        problem, manifest = str(error), _readable(path / FILE_NAMES[kind])
    if "ablation" in manifest and not problem:
        print(*(f"  {line}" for line in table(manifest).splitlines()), sep="\n")
        # The table says it shorter.
        shown = {name: value for name, value in manifest.items() if name != "ablation"}
    elif kind == "report" and not problem:
        print(*(f"  {line}" for line in summarized(manifest).splitlines()), sep="\n")
        shown = {name: value for name, value in manifest.items() if name not in SUMMARIZED}
    else:
        shown = manifest
    for line in _lines(shown):
        print(f"  {line}")
    # The hashes in a broken manifest vouch for nothing.
    return [problem] if problem else _CHECKS[kind](path, manifest)


def _kind(path: Path) -> str:
    if (path / DEMO_PROGRESS).is_file():
        raise UserError(f"{path} is an unfinished demo; run svp demo again to go on")
    for kind, name in FILE_NAMES.items():
        if (path / name).is_file():
            return kind
    if (path / BASE_INDEX).is_file() or (path / "unet").is_dir():
        return "base"
    if (path / MODEL_CONFIG).is_file():
        return "model"
    if not path.exists() and not partial_folder(path).exists():
        raise UserError(f"{path}: no such file or folder")
    if not path.exists() or path.name.endswith(".partial"):
        raise UserError(f"{path} is unfinished; run the command that makes it again")
    names = ", ".join((*FILE_NAMES.values(), BASE_INDEX, MODEL_CONFIG))
    raise UserError(f"{path} is no base, model, {', '.join(FILE_NAMES)}: it has none of {names}")


def _readable(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _lines(content: dict, prefix: str = "") -> Iterator[str]:
    """A line `name  value` for each value; nested names with dots, lists of them by number, long lists counted."""
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) > LONGEST_LIST:
            yield f"{prefix + name:<32} {len(value)} values"
        else:
            yield f"{prefix + name:<32} {value if isinstance(value, str) else json.dumps(value)}"


def _inspect_base(path: Path) -> list[str]:
    problems = _inspect_models(path, networks_of(path))
    if problems:
        return problems
    try:
        base = load_base(path, networks=())
        print(f"  {'scheduler':<32} {base.scheduler_config.prediction_type} prediction")
        print(f"  {'tokenizer':<32} {len(base.tokenizer)} tokens")
        print(f"  {'sha256':<32} {base.sha256}")
    except UserError as error:
        return [str(error)]
    return []


def _inspect_file(path: Path) -> list[str]:
    """A single file of weights: what it is recognised as; its numbers are read, to see whether they are finite."""
    print(f"weights {path}")
    try:
        file = open_single_file(path)
        print(f"  {'recognised as':<32} {file.description}")
        for name, component in file.components.items():
            count = sum(math.prod(tensor.shape) for tensor in component.tensors.values())
            print(f"  {name:<32} {component.model_class.__name__}, {count:,} parameters")
            for tensor_name, tensor in component.tensors.items():
                check_finite(tensor.read(), tensor_name, path)
    except UserError as error:
        return [str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")]
    return []


def _inspect_models(path: Path, names: tuple[str, ...]) -> list[str]:
    """Opens the models below `path`, prints their sizes, and returns the errors of those that do not open."""
    problems = []
    for name in names:
        try:
            model = load_model(path / name)
        except UserError as error:
            problems.append(str(error))
            continue
        count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
        print(f"  {name or 'class':<32} {type(model).__name__}, {count:,} parameters")
    return problems


def _check_capture(path: Path, manifest: dict) -> list[str]:
    try:
        return [f"{name} was changed after it was made" for name in open_capture(path).damaged_files()]
    except UserError as error:
        return [str(error)]


def _check_avatar(path: Path, manifest: dict) -> list[str]:
    problems = []
    base = manifest["base"]["path"]
    if base != "tiny" and not Path(base).exists():
        problems.append(f"its base {base} is not there")
    for name, problem in _damage(manifest["files"], part_hashes(path)).items():
        problems.append(problem)
        # A folder that holds a config.json is a model; the others hold models.
        models = (path / name).rglob(MODEL_CONFIG)
        for model in sorted(models):
            try:
                load_model(model.parent)
            except UserError as error:
                problems.append(str(error))
    return problems


def _check_render(path: Path, manifest: dict) -> list[str]:
    return list(_damage(manifest["files"], content_hashes(path)).values())


def _check_sweep(path: Path, manifest: dict) -> list[str]:
    problems = list(_damage(manifest["files"], content_hashes(path)).values())
    for name in manifest["videos"]:
        try:
            problems += [
                f"{name}: {problem}" for problem in _check_render(path / name, read_manifest(path / name, "render"))
            ]
        except UserError as error:
            problems.append(str(error))
    return problems


def _damage(files: dict[str, str], found: dict[str, str]) -> dict[str, str]:
    """What is wrong with each of `files` whose hash is not as recorded."""
    return {
        name: f"{name} was changed after it was made" if name in found else f"{name} is missing"
        for name, digest in files.items()
        if found.get(name) != digest
    }


def _check_report(path: Path, manifest: dict) -> list[str]:
    if "ablation" in manifest:
        metrics = manifest["ablation"]["points"][0]["scores"]
        return _missing(path, ["front.png", "report.html", *(f"heatmap_{metric}.png" for metric in metrics)])
    return _missing(path, ["contact_sheet.png", "frames.csv", "report.html", "table.md", "table.tex"])


def _check_demo(path: Path, manifest: dict) -> list[str]:
    videos = ["avatar.mp4", "side_by_side.mp4", "plain.mp4", "morph.mp4"]
    return _missing(path, [*videos, "metrics.json", "contact_sheet.png", "morph_sheet.png", "README.md"])


def _missing(path: Path, names: list[str]) -> list[str]:
    return [f"{name} is missing" for name in names if not (path / name).is_file()]


_CHECKS = {
    "capture": _check_capture,
    "avatar": _check_avatar,
    "render": _check_render,
    "sweep": _check_sweep,
    "report": _check_report,
    "demo": _check_demo,
}
