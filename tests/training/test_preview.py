"""Previews: which frames they show, what they score, and that they compile once."""

import numpy as np
import pytest
from factories import ENCODER, SCHEDULER, make_capture, random_model
from flax import nnx

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_png
from svp_jax.diffusion import Schedule
from svp_jax.models.controlnet import ControlNet, controlnet_from_unet
from svp_jax.training.data.held_out import scored_frames
from svp_jax.training.watching import preview
from svp_jax.training.watching.preview import StagePreview
from svp_jax.weights.folder import load_model


@pytest.fixture(scope="module")
def models(base_folder):
    """With a ControlNet that follows its condition: a fresh one draws the same for every frame."""
    unet = load_model(base_folder / "unet")
    config = controlnet_from_unet(unet, 9, nnx.Rngs(0)).config
    return {"controlnet": random_model(ControlNet, config, np.random.default_rng(0), gain=2.0), "unet": unet}


@pytest.fixture(scope="module")
def vae(base_folder):
    return load_model(base_folder / "vae")


def test_four_of_eight_frames_are_shown_and_all_are_scored(models, vae, tmp_path):
    capture = open_capture(make_capture(tmp_path / "capture", 100))
    text = np.zeros((77, ENCODER["cross_attention_dim"]), np.float32)
    schedule = Schedule.from_config(SCHEDULER, 2)
    make = StagePreview(tmp_path, scored_frames([capture]), "outlines", vae, schedule, text, 3, seed=0)
    seen = []
    make.score = lambda images, score=make.score: seen.append(images) or score(images)
    before = preview._sample._cache_size()
    first = make(0, models)
    again = make(7, models)
    assert preview._sample._cache_size() == before + 1
    assert first == again and first.keys() == {"parsing_agreement", "mean_iou", "mean_iou_other_frame"}
    assert len(seen[0]) == 8
    np.testing.assert_array_equal(seen[0], seen[1])
    sheet = read_png(make.path(7))
    np.testing.assert_array_equal(sheet, read_png(tmp_path / "preview_000000.png"))
    frames = scored_frames([capture]).frames[::2]
    rows = [np.split(row, 4, axis=1) for row in np.split(sheet, 3)]
    np.testing.assert_array_equal(rows[0], capture.parsing(frames))
    np.testing.assert_array_equal(rows[2], seen[0][::2])
    # Each frame has its own condition: the network sees it.
    assert len({image.tobytes() for image in seen[0]}) == 8
