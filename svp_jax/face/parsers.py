"""Segmentation models behind one call: any ONNX parser with a YAML description, or MediaPipe's segmenter."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from svp_jax.errors import UserError, check_keys
from svp_jax.face.without_log import without_log
from svp_jax.model_files import find_model, look_up_model

# What a parser can tell apart; the rest of the labels is drawn from the landmarks.
COARSE = ("background", "clothes", "hair", "skin", "glasses", "beard")
SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "parsers" / "skin_clothes_hair_pan.yaml"
SEGMENTER = "selfie_multiclass_256x256.tflite"
# Classes of MediaPipe's multiclass selfie segmenter in order; what people wear and hold counts as clothes.
SEGMENTER_CLASSES = ("background", "hair", "skin", "skin", "clothes", "clothes")

# The keys of a parser's YAML and of its `input`.
KEYS = ("model", "input", "activation", "threshold", "classes")
INPUT_KEYS = ("width", "height", "channels", "layout", "mean", "std")

Parser = Callable[[np.ndarray, int], np.ndarray]
"""(uint8 [H, H, 3] RGB, size) -> float32 [size, size, 6], the scores of `COARSE`."""


@dataclass(frozen=True)
class ParserDescription:
    """The YAML of an ONNX parser; the shipped one explains each field."""

    path: Path
    model: Path
    width: int
    height: int
    channels: str
    layout: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    activation: str
    threshold: float
    classes: tuple[str, ...]


def read_description(path: Path) -> ParserDescription:
    """Reads and checks a parser's YAML; UserError names the field that is wrong or unknown."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--parser {path}: not a readable YAML file ({str(error).splitlines()[0]})") from None
    check_keys(content, KEYS, f"--parser {path}")
    try:
        size = content["input"]
        check_keys(size, INPUT_KEYS, f"--parser {path}", "input.")
        beside = path.parent / content["model"]
        fields = {
            "model": beside if beside.is_file() else find_model(content["model"]),
            "width": int(size["width"]),
            "height": int(size["height"]),
            "channels": str(size.get("channels", "rgb")),
            "layout": str(size.get("layout", "nchw")),
            "mean": tuple(float(value) for value in size.get("mean", (0, 0, 0))),
            "std": tuple(float(value) for value in size.get("std", (1, 1, 1))),
            "activation": str(content.get("activation", "none")),
            "threshold": float(content.get("threshold", 0.5)),
            "classes": tuple(content["classes"]),
        }
    except KeyError as error:
        raise UserError(f"--parser {path}: {error.args[0]} is missing; see {SHIPPED.name} for an example") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--parser {path}: {error}; see {SHIPPED.name} for an example") from None
    allowed = {
        "channels": ("rgb", "bgr"),
        "layout": ("nchw", "nhwc"),
        "activation": ("none", "sigmoid", "softmax"),
    }
    for name, values in allowed.items():
        if fields[name] not in values:
            raise UserError(f"--parser {path}: {name} is {fields[name]!r}, allowed are {', '.join(values)}")
    for name in ("width", "height"):
        if fields[name] < 1:
            raise UserError(f"--parser {path}: {name} is {fields[name]}, allowed are whole numbers from 1")
    for name in ("mean", "std"):
        if len(fields[name]) != 3:
            raise UserError(f"--parser {path}: {name} has {len(fields[name])} numbers, 3 are needed, one per colour")
    if not all(value > 0 for value in fields["std"]):
        raise UserError(f"--parser {path}: std is {list(fields['std'])}, allowed are numbers above 0")
    unknown = sorted({str(name) for name in fields["classes"]} - {*COARSE, "ignore"})
    if unknown:
        raise UserError(f"--parser {path}: unknown classes {unknown}, allowed are {', '.join(COARSE)}, ignore")
    return ParserDescription(path, **fields)


def default_parser() -> str:
    """The first that is there: the shipped description's model, MediaPipe's segmenter, "landmarks"."""
    if look_up_model(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["model"]):
        return str(SHIPPED)
    return str(look_up_model(SEGMENTER) or "landmarks")


@contextlib.contextmanager
def open_parser(choice: str | None) -> Iterator[tuple[str, Parser | None, tuple[Path, ...]]]:
    """Gives (name, parser, its files) for the user's choice; None instead of a parser means landmarks only.

    Args:
        choice: a .yaml description, a .tflite segmenter, "landmarks", or None for `default_parser`.

    Raises:
        UserError: the file is missing or cannot be used.
    """
    choice = default_parser() if choice is None else choice
    suffix = Path(choice).suffix.lower()
    if choice == "landmarks":
        yield "landmarks", None, ()
    elif suffix in (".yaml", ".yml"):
        description = read_description(Path(choice))
        yield Path(choice).stem, onnx_parser(description), (description.path, description.model)
    elif suffix == ".tflite":
        model = find_model(SEGMENTER, Path(choice), "--parser")
        with _segmenter(model) as parser:
            yield Path(choice).stem, parser, (model,)
    else:
        raise UserError(
            f"--parser {choice}: allowed are a .yaml description of an ONNX model, MediaPipe's {SEGMENTER}, "
            "or landmarks"
        )


def onnx_parser(description: ParserDescription) -> Parser:
    """Loads the network; UserError where it cannot be loaded or its output does not fit the description."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from decoding and encoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(description.model), options, providers=["CPUExecutionProvider"])
    # onnxruntime's exceptions have no common base but Exception.
    except Exception as error:
        raise UserError(f"{description.model} cannot be loaded by onnxruntime ({_first_line(error)})") from None
    name = session.get_inputs()[0].name
    mean, std = (np.array(values, np.float32) for values in (description.mean, description.std))

    def parse(image: np.ndarray, size: int) -> np.ndarray:
        wanted = (description.width, description.height)
        shrinks = image.shape[1] > wanted[0]
        resized = cv2.resize(image, wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        ordered = resized if description.channels == "rgb" else resized[..., ::-1]
        batch = ((ordered.astype(np.float32) / 255 - mean) / std)[None]
        if description.layout == "nchw":
            batch = batch.transpose(0, 3, 1, 2)
        try:
            output = session.run(None, {name: batch})[0]
        except Exception as error:
            raise UserError(f"{description.path}: {description.model.name} refuses it ({_first_line(error)})") from None
        maps = _score_maps(output, description)
        maps = resize_maps(activate(maps, description.activation), size)
        return coarse_scores(maps, description.classes, description.threshold)

    return parse


def _score_maps(output: object, description: ParserDescription) -> np.ndarray:
    """The network's first output as float32 [h, w, C]; UserError where it is not one score for each class."""
    nchw = description.layout == "nchw"
    about = f"{description.path}: {description.model.name}"
    kind, shape = getattr(output, "dtype", type(output).__name__), getattr(output, "shape", ())
    # Whole numbers are labels, not scores.
    if len(shape) != 4 or not np.issubdtype(kind, np.floating):
        needed = "classes, height, width" if nchw else "height, width, classes"
        raise UserError(f"{about} gives {kind} {list(shape)}, needed are float scores [1, {needed}]")
    # OpenCV cannot resize float16.
    maps = output[0].astype(np.float32, copy=False)
    maps = maps.transpose(1, 2, 0) if nchw else maps
    if maps.shape[-1] != len(description.classes):
        raise UserError(f"{about} has {maps.shape[-1]} classes, {len(description.classes)} are described")
    return maps


def resize_maps(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps [h, w, C] at [size, size, C]."""
    method = cv2.INTER_AREA if size < len(maps) else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(maps), (size, size), interpolation=method).reshape(size, size, -1)


def activate(maps: np.ndarray, activation: str) -> np.ndarray:
    """Probabilities float32 [h, w, C] of a network's output."""
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-maps))
    if activation == "softmax":
        powers = np.exp(maps - maps.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)
    return maps


def coarse_scores(maps: np.ndarray, classes: tuple[str, ...], threshold: float) -> np.ndarray:
    """Scores float32 [h, w, 6] of `COARSE` from class probabilities [h, w, C]; the largest score wins.

    Classes of one name are added up. Where no class is the background, it scores `threshold` everywhere.
    """
    scores = np.zeros((*maps.shape[:2], len(COARSE)), np.float32)
    for index, name in enumerate(classes):
        if name != "ignore":
            scores[..., COARSE.index(name)] += maps[..., index]
    if "background" not in classes:
        scores[..., 0] = threshold
    return scores


@contextlib.contextmanager
def _segmenter(path: Path) -> Iterator[Parser]:
    import mediapipe
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import ImageSegmenter, ImageSegmenterOptions

    try:
        with without_log():
            segmenter = ImageSegmenter.create_from_options(
                ImageSegmenterOptions(BaseOptions(model_asset_path=str(path)), output_confidence_masks=True)
            )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--parser {path}: not a usable segmenter ({_first_line(error)})") from None

    def parse(image: np.ndarray, size: int) -> np.ndarray:
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        masks = [mask.numpy_view() for mask in segmenter.segment(picture).confidence_masks]
        if len(masks) != len(SEGMENTER_CLASSES):
            raise UserError(f"--parser {path}: {len(masks)} classes, expected {SEGMENTER} with 6")
        maps = resize_maps(np.dstack([np.squeeze(mask) for mask in masks]), size)
        return coarse_scores(maps, SEGMENTER_CLASSES, 0.5)

    with contextlib.closing(segmenter):
        yield parse


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
