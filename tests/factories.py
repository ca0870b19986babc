"""Small random bases, avatars and captures for tests: real folders, in a second each."""

import contextlib
import dataclasses
import functools
import json
import resource
from fractions import Fraction
from pathlib import Path

import av
import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from svp_jax.capture.capture import CaptureWriter
from svp_jax.capture.face_track import FaceTrack
from svp_jax.capture.images import write_png
from svp_jax.face.conditions import OUTLINES_WINDOW, condition_spec
from svp_jax.face.labels import LABEL_INDEX, colorize
from svp_jax.face.morphable.camera import Camera
from svp_jax.face.morphable.embedding import at_vertices
from svp_jax.face.morphable.mediapipe import MediaPipeFace
from svp_jax.face.morphable.multi_pie import FROM_MEDIAPIPE
from svp_jax.face.morphable.parameters import neutral
from svp_jax.manifest import write_manifest
from svp_jax.models import (
    VAE,
    ControlNet,
    ControlNetConfig,
    TextEncoder,
    TextEncoderConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)
from svp_jax.training.config import TrainConfig
from svp_jax.weights.avatar import part_hashes
from svp_jax.weights.base import open_base
from svp_jax.weights.folder import save_model

ENCODER = {
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
}
UNET = {**ENCODER, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "sample_size": 8}
VAE_SETTINGS = {
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 64,
}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


@contextlib.contextmanager
def file_size_limit(size: int):
    """No file can grow beyond `size` bytes: the system refuses to write as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_tokenizer(folder: Path) -> Path:
    """A CLIP tokenizer without merges: one token for each character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>"} | {f"{name}_token": "<|endoftext|>" for name in ("eos", "unk", "pad")}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def random_model(model_class: type, config, rng: np.random.Generator, gain: float = 1.0) -> nnx.Module:
    """A model whose every parameter is random, zero convolutions too: so that all of it has an effect."""
    structure, state = _structure(model_class, config)

    def draw(path, leaf):
        # Kernels keep the size of what passes; biases are small, or they would drown it.
        width = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
        values = width * gain * rng.standard_normal(leaf.shape)
        return jnp.asarray(values + ("scale" in jax.tree_util.keystr(path)), jnp.float32)

    return nnx.merge(structure, jax.tree_util.tree_map_with_path(draw, state))


@functools.cache
def _structure(model_class: type, config) -> tuple[nnx.GraphDef, nnx.State]:
    """A model without numbers; half a second each, and tests ask for the same few."""
    return nnx.split(nnx.eval_shape(lambda: model_class(config, rngs=nnx.Rngs(0))))


def make_base(folder: Path, seed: int = 0) -> Path:
    """A Stable Diffusion folder in the diffusers layout, of random weights; for 64 x 64 images."""
    rng = np.random.default_rng(seed)
    save_model(random_model(UNet, UNetConfig.from_json(UNET), rng), folder / "unet")
    save_model(random_model(VAE, VAEConfig.from_json(VAE_SETTINGS), rng), folder / "vae")
    save_model(random_model(TextEncoder, TextEncoderConfig.from_json(TEXT), rng), folder / "text_encoder")
    make_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def make_avatar(
    folder: Path,
    base: Path,
    *,
    stages: tuple[str, ...] = ("outlines", "details"),
    locked: bool = False,
    size: int = 64,
    temporal: tuple[float, float, float, float] = (0.7, 0.3, 1.0, 0.5),
    prompt: str = "a person",
    seed: int = 1,
) -> Path:
    """An avatar of random weights."""
    rng = np.random.default_rng(seed)
    spec = condition_spec(OUTLINES_WINDOW)
    for name in stages:
        channels = {"conditioning_channels": spec[name]["channels"]}
        config = ControlNetConfig.from_json({**ENCODER, **channels})
        # The hint encoder has eight layers without norms: at gain 1 all frames would look alike to it.
        save_model(random_model(ControlNet, config, rng, gain=2.0), folder / name / "controlnet")
        if not locked:
            save_model(random_model(UNet, UNetConfig.from_json(UNET), rng), folder / name / "unet")
    body = {
        "base": {"path": str(base), "sha256": open_base(base).sha256()},
        "captures": [
            {
                "path": "capture",
                "manifest_sha256": "0" * 64,
                "size": size,
                "face_model": "synthetic",
                "parser": "synthetic",
            }
        ],
        "stages": {name: {"trainable": "locked" if locked else "full"} for name in stages},
        "prompt": prompt,
        "condition": spec,
        "temporal": dict(zip(("current", "previous", "noise", "tau"), temporal, strict=True)),
        "vae_tuned": False,
        "labels": ["background", "face"],
        "config": dataclasses.asdict(TrainConfig(preview_steps=2)),
    }
    body["files"] = part_hashes(folder)
    write_manifest(folder, "avatar", body)
    return folder


def make_capture(
    folder: Path,
    frames: int = 10,
    size: int = 64,
    *,
    without_face: tuple[int, ...] = (),
    cuts: tuple[int, ...] = (),
    frame_rate: str = "25/1",
    audio: bool = False,
    test_fraction: float = 0.2,
    tracking: dict | None = None,
) -> Path:
    """A finished capture of a wandering disc; a shot starts at 0, after frames without a face, at `cuts`.

    Args:
        tracking: more arrays for its tracking.npz.
    """
    folder.mkdir(parents=True)
    writer = CaptureWriter(folder, size)
    shots, shot = [], 0
    for number in range(frames):
        if number in cuts or (number - 1 in without_face):
            shot += 1
        shots.append(-1 if number in without_face else shot)
        writer.add(*draw_frame(number, size, found=number not in without_face))
    if audio:
        write_rising_tone(folder / "audio.mka", frames / Fraction(frame_rate))
    tracking = {"shot": np.array(shots), "landmarks": np.zeros((frames, 478, 3), np.float32), **(tracking or {})}
    info = {
        "source": {"name": "test", "sha256": "0" * 64},
        "frame_rate": frame_rate,
        "face_model": "synthetic",
        "parser": "synthetic",
        "test_fraction": test_fraction,
    }
    writer.finish(tracking, info)
    return folder


def make_face_track(frames: int, seed: int = 0, size: int = 64) -> FaceTrack:
    """A MediaPipe model of random points that turns its head, opens its mouth and looks around."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(-0.8, 0.8, (478, 3)) * [1, 1, 0.2]
    channels = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight")
    model = MediaPipeFace(
        mean=mean.astype(np.float32),
        basis=(0.1 * rng.normal(size=(len(channels), 478, 3))).astype(np.float32),
        turned_by=np.r_[np.full(468, 2), np.zeros(5), np.ones(5)].astype(np.int8),
        eye_centre=np.array([[-0.3, 0, 0], [0.3, 0, 0]], np.float32),
        seen=np.ones(len(channels), np.float32),
        landmarks=at_vertices(np.array(FROM_MEDIAPIPE)),
        channels=channels,
    )
    time = np.linspace(0, 2 * np.pi, frames)
    parameters = neutral(0, len(channels), frames)
    parameters.expression[:, 0] = 0.3 + 0.3 * np.sin(time)
    parameters.rotation[:, 1] = 0.2 * np.sin(time)
    parameters.eyes[:, :, 1] = 0.1 * np.cos(time)[:, None]
    parameters.translation[:] = [0, 0, -5]
    camera = Camera(np.float32(2 * size), np.full(2, size / 2, np.float32))
    return FaceTrack("mediapipe", parameters, camera, Fraction(25), np.ones(frames, bool), model)


def draw_frame(number: int, size: int, found: bool = True) -> tuple[np.ndarray, ...]:
    """Frame, parsing map, geometry and iris map uint8 [size, size, 3], different for each `number`."""
    centre = tuple(size // 2 + round(size / 6 * move) for move in (np.sin(number), np.cos(0.7 * number)))
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    frame = np.full((size, size, 3), 90, np.uint8)
    frame[..., 0], frame[..., 1] = ramp, ramp[:, None]
    cv2.circle(frame, centre, size // 4, (220, 170, 140), -1)
    labels = np.zeros((size, size), np.uint8)
    geometry, iris = np.zeros_like(frame), np.zeros_like(frame)
    if found:
        cv2.circle(labels, centre, size // 4, LABEL_INDEX["face"], -1)
        cv2.circle(geometry, centre, size // 4, (128 + 10 * (number % 12), 128, 255), -1)
        cv2.circle(iris, centre, size // 16, (255, 0, 255), -1)
    return frame, colorize(labels), geometry, iris


RISE = (300.0, 5000.0)  # Hertz at the start, and more of them a second.


def write_rising_tone(path: Path, seconds: float) -> None:
    """A sine as AAC, mono, 16 kHz, whose pitch tells the time (`RISE`)."""
    rate, (first, rise) = 16000, RISE
    times = np.arange(round(rate * float(seconds))) / rate
    samples = np.sin(2 * np.pi * (first * times + rise / 2 * times**2)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, len(samples), 1024):
            part = samples[None, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class NoPreview:
    """A preview for the training loop that writes a black pixel, calls `see` and gives its scores."""

    def __init__(self, folder: Path, see=lambda step, models: {}):
        self.folder, self.see = folder, see

    def path(self, step: int) -> Path:
        return self.folder / "preview.png"

    def __call__(self, step: int, models: dict) -> dict[str, float]:
        write_png(self.path(step), np.zeros((1, 1, 3), np.uint8))
        return self.see(step, models) or {}
