"""Latents on disk: reused while what made them is the same, made again when not."""

import ast
import pickle
import tracemalloc

import jax
import numpy as np
import pytest
from factories import VAE_SETTINGS, file_size_limit, random_model

from svp_jax.errors import UserError
from svp_jax.models import VAE, VAEConfig
from svp_jax.models.codec import decode_images, encode_images
from svp_jax.training.data import latents
from svp_jax.training.data.latents import Latents, cached_latents


@pytest.fixture(scope="module")
def vae():
    return random_model(VAE, VAEConfig.from_json(VAE_SETTINGS), np.random.default_rng(0))


class Reader:
    """Random images 64 x 64, and how often they were asked for."""

    def __init__(self, count: int = 10):
        self.images = np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), np.uint8)
        self.calls = 0

    def __call__(self, indices):
        self.calls += 1
        return self.images[indices]


def test_batches_are_filled_up_without_a_trace(vae):
    reader = Reader()
    mean, std = encode_images(vae, reader, np.arange(10))
    assert mean.shape == std.shape == (10, 8, 8, 4)
    assert mean.dtype == std.dtype == np.float32
    assert (std > 0).all()
    direct, logvar = vae.encode(reader.images[9:] / np.float32(127.5) - 1)
    np.testing.assert_allclose(mean[9:], direct, atol=1e-5)
    np.testing.assert_allclose(std[9:], np.exp(logvar / 2), atol=1e-5)
    decoded = decode_images(vae, mean)
    assert decoded.shape == (10, 64, 64, 3)
    assert decoded.dtype == np.uint8
    expected = np.clip((np.asarray(vae.decode(mean[9:])) + 1) * 127.5, 0, 255)
    # Half a level of rounding, and what float32 does at its edge.
    assert np.abs(decoded[9:] - expected).max() <= 0.501


def read_all(latents):
    return latents.read(np.arange(len(latents)))


def test_the_cache_is_reused(vae, tmp_path):
    reader, folder = Reader(), tmp_path / "latents"
    first = read_all(cached_latents(folder, vae, "source", reader, np.arange(4)))
    assert reader.calls == 1
    for one, other in zip(first, encode_images(vae, Reader(), np.arange(4)), strict=True):
        np.testing.assert_array_equal(one, other)
    again = cached_latents(folder, vae, "source", reader, np.arange(4))
    assert reader.calls == 1 and len(again) == 4
    for one, other in zip(read_all(again), first, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.read(np.array([3, 1]))[1], first[1][[3, 1]])
    assert sorted(path.name for path in folder.iterdir()) == ["latents.json", "mean.npy", "std.npy"]
    # Anyone may read them.
    np.testing.assert_array_equal(np.load(folder / "mean.npy"), first[0])


def test_reading_parses_no_header(tmp_path, monkeypatch):
    """Threads read, and in Python 3.11 threads that parse disturb each other."""
    for name in ("mean", "std"):
        np.save(tmp_path / f"{name}.npy", np.ones((4, 8, 8, 4), np.float32))
    opened = Latents.open(tmp_path)
    monkeypatch.setattr(ast, "parse", lambda *_, **__: pytest.fail("parsed"))
    assert opened.read(np.arange(2))[0].shape == (2, 8, 8, 4)


def test_the_cache_is_made_again_for_anything_else(vae, tmp_path):
    reader, folder = Reader(), tmp_path / "latents"
    cached_latents(folder, vae, "source", reader, np.arange(4))
    cached_latents(folder, vae, "another source", reader, np.arange(4))
    assert reader.calls == 2
    mean, _ = read_all(cached_latents(folder, vae, "another source", reader, np.arange(1, 5)))
    assert reader.calls == 3
    tuned = jax.tree.map(lambda x: x, vae)
    tuned.encoder.conv_in.bias[...] += 0.1
    other, _ = read_all(cached_latents(folder, tuned, "another source", reader, np.arange(1, 5)))
    assert reader.calls == 4
    assert np.abs(mean - other).max() > 1e-3


def test_an_interrupted_encoding_goes_on_where_it_stopped(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "PART", 3)
    whole = read_all(cached_latents(tmp_path / "whole", vae, "source", Reader(), np.arange(10)))
    asked = []

    def read(indices):
        asked.append(int(indices[0]))
        if asked == [0, 3, 6]:
            raise KeyboardInterrupt
        return Reader()(indices)

    with pytest.raises(KeyboardInterrupt):
        cached_latents(tmp_path / "parts", vae, "source", read, np.arange(10))
    # Half of a part may have been written by then.
    with open(tmp_path / "parts" / "mean.npy", "ab") as file:
        file.write(b"abc")
    parts = read_all(cached_latents(tmp_path / "parts", vae, "source", read, np.arange(10)))
    assert asked == [0, 3, 6, 6, 9]
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    # The same stop, but then other pictures: from the start.
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        cached_latents(tmp_path / "others", vae, "source", read, np.arange(10))
    cached_latents(tmp_path / "others", vae, "other source", read, np.arange(10))
    assert asked == [0, 3, 6, 0, 3, 6, 9]


@pytest.mark.parametrize("damage", ["notes", "list", "short", "other shape", "no array", "gone", "old"])
def test_what_is_broken_or_of_an_older_format_is_made_again(vae, tmp_path, damage):
    folder = tmp_path / "latents"
    expected = read_all(cached_latents(folder, vae, "source", Reader(), np.arange(4)))
    if damage == "notes":
        (folder / "latents.json").write_text('{"made_fr')
    elif damage == "list":
        (folder / "latents.json").write_text("[1]")
    elif damage == "short":
        content = (folder / "std.npy").read_bytes()
        (folder / "std.npy").write_bytes(content[:-1])
    elif damage == "other shape":
        np.save(folder / "mean.npy", np.zeros((5, 8, 8, 4), np.float32))
    elif damage == "no array":
        (folder / "mean.npy").write_bytes(b"x" * 10000)
    elif damage == "gone":
        (folder / "mean.npy").unlink()
    else:
        # One file of both arrays, whole or not.
        np.savez(tmp_path / "latents.npz", mean=expected[0], std=expected[1], made_from="a")
        (folder / "latents.json").unlink()
    reader = Reader()
    made = read_all(cached_latents(folder, vae, "source", reader, np.arange(4)))
    assert reader.calls == 1
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_few_pictures_are_in_memory_at_a_time(vae, tmp_path, monkeypatch):
    """2,000 pictures whose latents are 4 MB, and whose pixels would be 25 MB: less than 3 MB are taken."""
    monkeypatch.setattr(latents, "encode_images", lambda vae, read, part: (read(part)[:, ::8, ::8].repeat(2, -1),) * 2)

    def read(indices):
        return np.ones((len(indices), 64, 64, 3), np.float32)

    tracemalloc.start()
    try:
        made = cached_latents(tmp_path / "latents", vae, "source", read, np.arange(2000))
        mean, _ = made.read(np.array([1999]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = (tmp_path / "latents" / "mean.npy").stat().st_size
    assert mean.shape == (1, 8, 8, 6) and size > 3e6
    pixels = latents.PART * read(np.arange(1)).nbytes
    assert peak < 1.5 * pixels + 5e5
    # Nor are they pickled, for the processes that make batches.
    assert len(pickle.dumps(made)) < 1000


def test_a_full_disk(vae, tmp_path, monkeypatch):
    """What was written before it stays, and is gone on with."""
    monkeypatch.setattr(latents, "PART", 2)
    folder, reader = tmp_path / "latents", Reader()
    # Four pictures of 1 KB each and a header fit.
    with (
        file_size_limit(5000),
        pytest.raises(UserError, match=r"latents: cannot write the latents \(File too large\); free space"),
    ):
        cached_latents(folder, vae, "source", reader, np.arange(10))
    calls = reader.calls
    cached_latents(folder, vae, "source", reader, np.arange(10))
    assert calls == 3 and reader.calls == 3 + 3
