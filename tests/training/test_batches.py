"""Which samples make a batch, and what is in it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_jax.capture.capture import open_capture
from svp_jax.capture.conditions import outlines_of
from svp_jax.face.conditions import outlines_condition
from svp_jax.face.labels import LABEL_INDEX, colorize
from svp_jax.training.config import Copies
from svp_jax.training.data.batches import batch_indices, sample_rng
from svp_jax.training.data.latents import Latents
from svp_jax.training.data.loader import ORIGIN
from svp_jax.training.data.views import training_views
from svp_jax.training.stage import StageSamples
from svp_jax.training.vae_pass import VAESamples


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
    drawn = [sample_rng(*key).random() for key in ((3, 7, 1), (3, 7, 1), (4, 7, 1), (3, 8, 1), (3, 7, 2), (3, 1, 7))]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 5


ALL = slice(None)


@pytest.fixture(scope="module")
def capture(capture_folder):
    return open_capture(capture_folder)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """Of 45 views, 15 of them no copies: each has its number everywhere."""
    folder = tmp_path_factory.mktemp("latents")
    numbers = np.arange(45, dtype=np.float32)[:, None, None, None] * np.ones((1, 8, 8, 4), np.float32)
    np.save(folder / "mean.npy", numbers)
    np.save(folder / "std.npy", -numbers)
    return Latents.open(folder)


def stage_samples(capture, latents, stage, **changes) -> StageSamples:
    defaults = dict(
        views=training_views([capture], Copies(per_frame=2), seed=0),
        stage=stage,
        latents=latents,
        text=np.ones((77, 16), np.float32),
        copy_text=np.full((77, 16), 2, np.float32),
        no_text=np.zeros((77, 16), np.float32),
        window=3,
        degrade=stage == "details",
        prompt_dropout=0.5,
        batch_size=6,
        seed=0,
    )
    return StageSamples(**{**defaults, **changes})


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_a_batch_is_a_function_of_its_number(capture, latents, stage):
    samples, again = stage_samples(capture, latents, stage), stage_samples(capture, latents, stage)
    first = samples(4, ALL)
    samples(5, ALL)
    shapes = {"mean": (6, 8, 8, 4), "std": (6, 8, 8, 4), "condition": (6, 64, 64, 9), "text": (6, 77, 16)}
    shapes[ORIGIN] = (6, 2)
    assert {name: array.shape for name, array in first.items()} == shapes
    for name, array in again(4, ALL).items():
        np.testing.assert_array_equal(array, first[name])
    assert any(not np.array_equal(array, first[name]) for name, array in again(5, ALL).items())


@given(
    st.permutations(range(6)), st.lists(st.integers(1, 5), max_size=3), st.sampled_from(["outlines", "details", "vae"])
)
@settings(max_examples=20, deadline=None)
def test_any_split_into_shares_gives_the_same_rows(capture, latents, order, cuts, kind):
    """Whatever rows are asked for together, and in which order: each process of a run makes its own."""
    if kind == "vae":
        samples = VAESamples(training_views([capture], Copies(per_frame=2), seed=0), 6, seed=0)
    else:
        samples = stage_samples(capture, latents, kind)
    whole = samples(3, ALL)
    shares = np.split(np.array(order), sorted(set(cuts)))
    made = [samples(3, rows) for rows in shares]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([share[name] for share in made]), array[order])


def test_the_parts_of_a_sample_belong_together(capture, latents):
    batch = stage_samples(capture, latents, "details", degrade=False)(0, ALL)
    numbers = batch["mean"][:, 0, 0, 0].astype(int)
    views = training_views([capture], Copies(per_frame=2), seed=0)
    np.testing.assert_array_equal(batch["condition"], views.condition("details", numbers, 3))
    np.testing.assert_array_equal(batch["std"], -batch["mean"])


def test_only_the_parsing_map_is_degraded(capture, latents):
    clean, degraded = (
        stage_samples(capture, latents, "details", degrade=flag)(0, ALL)["condition"] for flag in (False, True)
    )
    assert not np.array_equal(clean[..., :3], degraded[..., :3])
    np.testing.assert_array_equal(clean[..., 3:], degraded[..., 3:])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_prompt_says_what_is_a_copy_or_is_dropped(capture, latents, share):
    batch = stage_samples(capture, latents, "details", prompt_dropout=share)(0, ALL)
    moved = batch["mean"][:, 0, 0, 0] >= len(capture.train_indices)
    assert 0 < moved.sum() < len(moved)
    expected = np.zeros(len(moved)) if share else np.where(moved, 2, 1)
    np.testing.assert_array_equal(batch["text"], np.broadcast_to(expected[:, None, None], batch["text"].shape))


def test_prompt_dropout_is_per_sample(capture, latents):
    samples = stage_samples(capture, latents, "outlines", batch_size=32)
    kept = [text.mean() for step in range(4) for text in samples(step, ALL)["text"]]
    assert set(kept) == {0.0, 1.0, 2.0}
    assert 0.3 < np.mean(np.array(kept) == 0) < 0.7


def test_outlines_windows_end_at_their_frame_and_start_with_its_shot(capture):
    """Frame 5 has no face, so 6 starts a shot."""
    whole = outlines_condition(capture.geometry(range(20)), capture.shot, 3)
    indices = np.array([0, 1, 4, 6, 7, 8, 12])
    np.testing.assert_array_equal(outlines_of(capture, indices, 3), whole[indices])
    first = outlines_of(capture, np.array([6]), 3)
    np.testing.assert_array_equal(first[..., :3], first[..., 6:])


def test_vae_batches_hold_every_map_and_every_frame(capture):
    views = training_views([capture], Copies(per_frame=1), seed=0)
    samples = VAESamples(views, batch_size=2 * len(views), seed=0)
    batch = samples(0, ALL)
    numbers = np.arange(len(views))
    wanted = [image.tobytes() for stage in ("outlines", "details") for image in views.targets(stage, numbers)]
    assert sorted(image.tobytes() for image in batch["image"]) == sorted(wanted)
    np.testing.assert_array_equal(samples(3, ALL)["image"], samples(3, ALL)["image"])


def test_vae_batches_know_where_the_features_are(capture, monkeypatch):
    """Of a map and of a frame alike."""
    views = training_views([capture], Copies(), seed=0)
    maps = np.zeros((capture.frame_count, capture.size, capture.size), np.uint8)
    maps[np.arange(capture.frame_count), np.arange(capture.frame_count)] = LABEL_INDEX["iris"]
    monkeypatch.setattr(type(capture), "parsing", lambda self, frames: colorize(maps[frames]))
    batch = VAESamples(views, batch_size=2 * len(views), seed=0)(0, ALL)
    rows = batch["features"].argmax(axis=1)
    assert (batch["features"].sum(axis=1) == 1).all() and (rows == rows[:, :1]).all()
    assert sorted(rows[:, 0]) == sorted([*capture.train_indices] * 2)
