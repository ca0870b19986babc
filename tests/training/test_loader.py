"""Batches made ahead: in order, the same by threads and by processes, and nothing is left when it ends."""

import multiprocessing
import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.errors import UserError
from svp_jax.training.config import Copies
from svp_jax.training.data.latents import Latents
from svp_jax.training.data.loader import batches
from svp_jax.training.data.views import training_views
from svp_jax.training.stage import StageSamples
from svp_jax.training.vae_pass import VAESamples

ROWS = np.arange(4)


@pytest.fixture(scope="module")
def samples(capture_folder, tmp_path_factory) -> StageSamples:
    views = training_views([open_capture(capture_folder)], Copies(per_frame=1, flipped=True), seed=0)
    latents = tmp_path_factory.mktemp("latents")
    for name in ("mean", "std"):
        np.save(latents / f"{name}.npy", np.random.default_rng(0).random((len(views), 8, 8, 4), np.float32))
    texts = (np.full((7, 16), number, np.float32) for number in range(3))
    return StageSamples(
        views,
        "details",
        Latents.open(latents),
        *texts,
        3,
        degrade=True,
        prompt_dropout=0.5,
        batch_size=4,
        seed=0,
    )


def assert_nothing_is_left() -> None:
    assert multiprocessing.active_children() == []
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            # It ends with the batch that it is at.
            thread.join(timeout=60)
            assert not thread.is_alive()


def check_order(samples, rows: np.ndarray, processes: int) -> None:
    with batches(samples, rows, 5, processes) as coming:
        for step in range(5, 12):
            batch, expected = next(coming), samples(step, rows)
            assert batch.keys() == expected.keys()
            for name, array in expected.items():
                assert batch[name].dtype == array.dtype
                np.testing.assert_array_equal(batch[name], array)
    assert_nothing_is_left()


def test_threads_give_the_batches_in_order(samples):
    check_order(samples, ROWS, 0)
    # Not all are alike, or nothing would have been shown.
    assert not np.array_equal(samples(5, ROWS)["condition"], samples(6, ROWS)["condition"])


def test_processes_give_a_share_of_the_batches_in_order_and_a_broken_picture_in_one_line(samples, tmp_path):
    """In one test, since starting processes takes seconds."""
    check_order(samples, np.array([3, 1]), 2)

    capture = open_capture(make_capture(tmp_path / "capture", 12))
    views = training_views([capture], Copies(), seed=0)
    broken = VAESamples(views, batch_size=4, seed=0)
    path = tmp_path / "capture" / "frames" / "000003.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with (
        pytest.raises(UserError, match=r"frames/000003\.png is not a readable image; make the folder again$") as error,
        batches(broken, ROWS, 0, 1) as coming,
    ):
        for _ in range(30):
            next(coming)
    assert "\n" not in str(error.value)
    assert_nothing_is_left()


def test_a_process_that_is_killed(samples):
    with (
        pytest.raises(UserError, match=r"ended by itself \(.*exit code -9\).*set loader_processes: 0"),
        batches(samples, ROWS, 0, 1) as coming,
    ):
        next(coming)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        for _ in range(30):
            next(coming)
    assert_nothing_is_left()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_threads_end_with_an_error_of_the_training(samples, error):
    with pytest.raises(error), batches(samples, ROWS, 0, 0) as coming:
        next(coming)
        raise error
    assert_nothing_is_left()


def test_an_error_of_the_samples_is_raised_at_its_batch():
    def failing(step, rows):
        if step == 3:
            raise UserError("frames/000003.png is broken")
        return {"step": np.full(len(rows), step)}

    with batches(failing, ROWS, 0, 0) as coming:
        for step in range(3):
            assert next(coming)["step"].tolist() == [step] * 4
        with pytest.raises(UserError, match="is broken"):
            next(coming)


def test_batches_are_made_ahead():
    made = []

    def samples(step, rows):
        made.append(step)
        return {"step": rows}

    with batches(samples, ROWS, 0, 0) as coming:
        next(coming)
        end = time.monotonic() + 60
        while len(made) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert sorted(made)[:3] == [0, 1, 2] and len(made) < 20


def test_samples_are_small_when_pickled(samples):
    """But for the three texts, of 230 KB each at real width."""
    texts = {name: np.zeros((1, 1), np.float32) for name in ("text", "copy_text", "no_text")}
    assert len(pickle.dumps(replace(samples, **texts))) < 10000
