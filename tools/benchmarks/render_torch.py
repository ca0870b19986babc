"""A render as one would write it with diffusers: frame by frame, both stages, without the temporal step."""

import time
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture
from svp_jax.capture.conditions import details_of, outlines_of
from svp_jax.capture.images import write_png
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.face.labels import colorize, decode
from svp_jax.manifest import read_manifest
from svp_jax.weights.convert import convert

STAGES = ("outlines", "details")


class Pipelines:
    """The two stages of an avatar as diffusers' pipelines, with text features that are computed once.

    Args:
        avatar: folder of the avatar; its stages are converted into `work`, and kept there.
        on_gpu: in bfloat16 with compiled networks; else in float32 on the CPU.
    """

    def __init__(self, avatar: Path, work: Path, on_gpu: bool):
        import diffusers
        import torch

        torch.set_grad_enabled(False)
        self.torch, self.manifest = torch, read_manifest(avatar, "avatar")
        self.pipelines, self.texts = {}, {}
        self.device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
        for stage in STAGES:
            folder = work / f"diffusers_{stage}_{self.manifest['manifest_sha256'][:8]}"
            if not folder.exists():
                convert(avatar, folder, stage=stage)
            pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(folder, torch_dtype=dtype).to(
                self.device
            )
            pipeline.set_progress_bar_config(disable=True)
            self.pipelines[stage] = pipeline
            self.texts[stage], _ = pipeline.encode_prompt(self.manifest["prompt"], self.device, 1, False)
            if on_gpu:
                for network in (pipeline.unet, pipeline.controlnet):
                    network.compile(mode="max-autotune-no-cudagraphs")
                pipeline.vae.decoder.compile(mode="max-autotune-no-cudagraphs")

    def picture(self, stage: str, condition: np.ndarray, noise: np.ndarray, steps: int) -> np.ndarray:
        """uint8 [S, S, 3] of a condition uint8 [S, S, C] and noise [1, h, w, c]."""
        image = self.torch.from_numpy(condition.astype(np.float32) / 255).permute(2, 0, 1)[None]
        latents = self.torch.from_numpy(np.ascontiguousarray(noise.transpose(0, 3, 1, 2)))
        latents = latents.to(self.device, self.texts[stage].dtype)
        result = self.pipelines[stage](
            prompt_embeds=self.texts[stage],
            image=image,
            latents=latents,
            num_inference_steps=steps,
            guidance_scale=1.0,
            output_type="np",
        )
        return np.round(result.images[0] * 255).astype(np.uint8)

    def render(self, capture: Capture, frames: np.ndarray, steps: int, folder: Path) -> float:
        """Renders frames from their conditions to files; the seconds that they took, without a first one."""
        window, labels = self.manifest["condition"]["outlines"]["window"], self.manifest["labels"]
        (folder / "frames").mkdir(parents=True, exist_ok=True)
        side = capture.size // (2 ** (len(self.pipelines["details"].vae.config.block_out_channels) - 1))
        noise = np.random.default_rng(0).standard_normal((1, side, side, 4)).astype(np.float32)
        start = 0.0
        with VideoWriter(folder / "avatar.mp4", capture.frame_rate, capture.size, capture.size) as video:
            for number, frame in enumerate(np.concatenate([frames[:1], frames])):
                if number == 1:
                    start = time.perf_counter()
                one = np.array([frame])
                outlines = self.picture("outlines", outlines_of(capture, one, window)[0], noise, steps)
                parsing = colorize(decode(outlines, labels))
                condition = details_of(capture, one, parsing[None])[0]
                picture = self.picture("details", condition, noise, steps)
                write_png(folder / "frames" / f"{frame:06d}.png", picture)
                video.write(picture)
        return time.perf_counter() - start
