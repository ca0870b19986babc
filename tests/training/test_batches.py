"""Which samples make a batch, and what is in it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_jax.capture.capture import open_capture
from svp_jax.face.conditions import outlines_condition
from svp_jax.face.labels import LABEL_INDEX, colorize
from svp_jax.training.batches import batch_indices, batch_rng
from svp_jax.training.stage import StageSamples
from svp_jax.training.vae_pass import VAESamples
from svp_jax.training.views import stage_condition, training_views


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_every_epoch_has_every_sample_once(count, batch_size, seed):
    """Also where batches are larger than the data, or straddle epochs."""
    steps = -(-3 * count // batch_size)
    drawn = np.concatenate([batch_indices(seed, step, count, batch_size) for step in range(steps)])[: 3 * count]
    for epoch in drawn.reshape(3, count):
        assert sorted(epoch) == list(range(count))


def test_batches_depend_on_seed_and_step_alone():
    first = batch_indices(3, 7, 1000, 16)
    batch_indices(3, 8, 1000, 16)
    np.testing.assert_array_equal(batch_indices(3, 7, 1000, 16), first)
    assert not np.array_equal(batch_indices(4, 7, 1000, 16), first)
    assert not np.array_equal(batch_indices(3, 8, 1000, 16), first)
    assert batch_rng(3, 7).random() == batch_rng(3, 7).random() != batch_rng(3, 8).random()


@pytest.fixture(scope="module")
def capture(capture_folder):
    return open_capture(capture_folder)


def stage_samples(capture, stage, **changes) -> StageSamples:
    views = training_views(capture, copies=2, seed=0)
    numbers = np.arange(len(views), dtype=np.float32)[:, None, None, None]
    defaults = dict(
        views=views,
        stage=stage,
        mean=numbers * np.ones((1, 8, 8, 4), np.float32),
        std=-numbers * np.ones((1, 8, 8, 4), np.float32),
        text=np.ones((77, 16), np.float32),
        moved_text=np.full((77, 16), 2, np.float32),
        no_text=np.zeros((77, 16), np.float32),
        window=3,
        degrade=stage == "details",
        prompt_dropout=0.5,
        batch_size=6,
        seed=0,
    )
    return StageSamples(**{**defaults, **changes})


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_a_batch_is_a_function_of_its_number(capture, stage):
    samples, again = stage_samples(capture, stage), stage_samples(capture, stage)
    first = samples(4)
    samples(5)
    shapes = {"mean": (6, 8, 8, 4), "std": (6, 8, 8, 4), "condition": (6, 64, 64, 9), "text": (6, 77, 16)}
    assert {name: array.shape for name, array in first.items()} == shapes
    for name, array in again(4).items():
        np.testing.assert_array_equal(array, first[name])
    assert any(not np.array_equal(array, first[name]) for name, array in again(5).items())


def test_the_parts_of_a_sample_belong_together(capture):
    batch = stage_samples(capture, "details", degrade=False)(0)
    numbers = batch["mean"][:, 0, 0, 0].astype(int)
    views = training_views(capture, copies=2, seed=0)
    np.testing.assert_array_equal(batch["condition"], views.condition("details", numbers, 3))
    np.testing.assert_array_equal(batch["std"], -batch["mean"])


def test_only_the_parsing_map_is_degraded(capture):
    clean, degraded = (stage_samples(capture, "details", degrade=flag)(0)["condition"] for flag in (False, True))
    assert not np.array_equal(clean[..., :3], degraded[..., :3])
    np.testing.assert_array_equal(clean[..., 3:], degraded[..., 3:])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_prompt_says_what_is_a_copy_or_is_dropped(capture, share):
    batch = stage_samples(capture, "details", prompt_dropout=share)(0)
    moved = batch["mean"][:, 0, 0, 0] >= len(capture.train_indices)
    assert 0 < moved.sum() < len(moved)
    expected = np.zeros(len(moved)) if share else np.where(moved, 2, 1)
    np.testing.assert_array_equal(batch["text"], np.broadcast_to(expected[:, None, None], batch["text"].shape))


def test_prompt_dropout_is_per_sample(capture):
    samples = stage_samples(capture, "outlines", batch_size=32)
    kept = [text.mean() for step in range(4) for text in samples(step)["text"]]
    assert set(kept) == {0.0, 1.0, 2.0}
    assert 0.3 < np.mean(np.array(kept) == 0) < 0.7


def test_outlines_windows_end_at_their_frame_and_start_with_its_shot(capture):
    """Frame 5 has no face, so 6 starts a shot."""
    whole = outlines_condition(capture.geometry(range(20)), capture.shot, 3)
    indices = np.array([0, 1, 4, 6, 7, 8, 12])
    np.testing.assert_array_equal(stage_condition(capture, "outlines", indices, 3), whole[indices])
    first = stage_condition(capture, "outlines", np.array([6]), 3)
    np.testing.assert_array_equal(first[..., :3], first[..., 6:])


def test_vae_batches_hold_every_map_and_every_frame(capture):
    views = training_views(capture, copies=1, seed=0)
    samples = VAESamples(views, batch_size=2 * len(views), seed=0)
    batch = samples(0)
    numbers = np.arange(len(views))
    wanted = [image.tobytes() for stage in ("outlines", "details") for image in views.targets(stage, numbers)]
    assert sorted(image.tobytes() for image in batch["image"]) == sorted(wanted)
    np.testing.assert_array_equal(samples(3)["image"], samples(3)["image"])


def test_vae_batches_know_where_the_features_are(capture, monkeypatch):
    """Of a map and of a frame alike."""
    views = training_views(capture, copies=0, seed=0)
    maps = np.zeros((capture.frame_count, capture.size, capture.size), np.uint8)
    maps[np.arange(capture.frame_count), np.arange(capture.frame_count)] = LABEL_INDEX["iris"]
    monkeypatch.setattr(type(capture), "parsing", lambda self, frames: colorize(maps[frames]))
    batch = VAESamples(views, batch_size=2 * len(views), seed=0)(0)
    rows = batch["features"].argmax(axis=1)
    assert (batch["features"].sum(axis=1) == 1).all() and (rows == rows[:, :1]).all()
    assert sorted(rows[:, 0]) == sorted([*capture.train_indices] * 2)
