"""An avatar's stage in diffusers' own ControlNet pipeline, against what is rendered here."""

import jax
import numpy as np
import pytest
from factories import make_avatar, make_base
from torch_reference import difference, diffusers, to_torch, torch

from svp_jax.capture.capture import open_capture
from svp_jax.capture.conditions import details_of
from svp_jax.capture.images import read_png
from svp_jax.diffusion import Schedule, TemporalWeights
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.rendering.stage_sampler import Frames, StageSampler, start_noise
from svp_jax.rendering.steering import Steering, window
from svp_jax.weights.avatar import load_avatar
from svp_jax.weights.base import encode_prompts
from svp_jax.weights.convert import convert

STEPS = 10
PROMPT, NEGATIVE = "a portrait of a person", "blurred"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An avatar, and the pipeline that diffusers makes of what its second stage is converted to."""
    root = tmp_path_factory.mktemp("exported")
    avatar = make_avatar(root / "avatar", make_base(root / "base"), prompt=PROMPT)
    convert(avatar, root / "details", stage="details")
    pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(root / "details")
    pipeline.set_progress_bar_config(disable=True)
    return avatar, pipeline


def theirs(pipeline, noise, condition, guidance, output):
    """The pipeline's results, one for each picture of the condition, from the same noise."""
    found = []
    for picture, latent in zip(condition, noise, strict=True):
        result = pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            image=to_torch(picture[None].astype(np.float32) / 255),
            latents=to_torch(latent),
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            output_type=output,
        )
        found.append(result.images)
    return found


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_ten_steps_with_guidance_equal_the_pipelines(exported, guidance, record_property):
    folder, pipeline = exported
    avatar = load_avatar(folder)
    stage = avatar.stages["details"]
    rng = np.random.default_rng(3)
    condition = rng.integers(0, 256, (2, 64, 64, 9), np.uint8)
    prompts = [NEGATIVE, PROMPT] if guidance > 1 else [PROMPT]
    schedule = Schedule.from_config(avatar.base.scheduler_config, STEPS)
    always = window(schedule, 0, 1)
    *negative, text = encode_prompts(avatar.base, prompts)
    sampler = StageSampler(
        (stage.controlnet, stage.unet, avatar.vae),
        schedule,
        TemporalWeights(1.0, 0.0, 1.0, 0.5),
        Steering(np.ones(1, np.float32), always, np.float32(guidance), always),
        length=2,
        negative=negative[0] if negative else None,
    )
    texts = np.broadcast_to(text, (2, *text.shape))
    ((latents, _),) = sampler([Frames(condition, np.arange(2), np.array([True, True]), texts)])
    noise = start_noise(jax.random.split(jax.random.key(0))[0], np.zeros(2, int), (1, 8, 8, 4))
    reference = torch.cat(theirs(pipeline, np.asarray(noise), condition, guidance, "latent"))
    figure = difference(latents, reference)
    record_property("difference", figure)
    # Ten steps of two libraries' rounding, enlarged by the guidance; measured 2.1e-5.
    assert figure <= 1e-3


def test_rendered_frames_equal_the_pipelines(exported, driver_folder, tmp_path, record_property):
    """`svp render` without the temporal step, on the capture's own maps; to within two grey levels."""
    folder, pipeline = exported
    options = RenderOptions(
        frames="0:5",
        maps="driver",
        steps=STEPS,
        guidance=7.5,
        negative_prompt=NEGATIVE,
        current=1.0,
        previous=0.0,
        noise=1.0,
    )
    render(folder, driver_folder, tmp_path / "render", options)
    driver = open_capture(driver_folder)
    # Frame 0 has no face.
    frames = np.arange(1, 5)
    condition = details_of(driver, frames, driver.parsing(frames))
    noise = start_noise(jax.random.split(jax.random.key(0))[0], np.zeros(len(frames), int), (1, 8, 8, 4))
    pictures = [np.asarray(images[0]) for images in theirs(pipeline, np.asarray(noise), condition, 7.5, "np")]
    worst = 0
    for number, picture in zip(frames, pictures, strict=True):
        ours = read_png(tmp_path / "render" / "frames" / f"{number:06d}.png").astype(int)
        worst = max(worst, np.abs(ours - np.round(picture * 255)).max())
    record_property("grey levels", int(worst))
    # Where a value lies between two grey levels, rounding decides; measured 1.
    assert worst <= 2
