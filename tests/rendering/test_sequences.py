"""Chunks of tracks: even, in step, and empty behind a track's end."""

import numpy as np
import pytest

from svp_jax.rendering.sequences import Track, chunk_length, chunks


def track(count: int) -> Track:
    return Track(None, np.arange(100, 100 + count), np.arange(count) == 0)


@pytest.mark.parametrize(("length", "lengths"), [(1, [1] * 10), (3, [3, 3, 3, 1]), (4, [4, 4, 2]), (16, [10])])
def test_chunks(length, lengths):
    parts = [part for (part,) in chunks([track(10)], length)]
    assert [part.stop - part.start for part in parts] == lengths
    assert [parts[0].start, *(part.stop for part in parts)] == [0, *np.cumsum(lengths)]


@pytest.mark.parametrize(
    ("count", "limit", "batch", "length"),
    [
        # Even: 8 + 1 would fill the second chunk up with seven frames.
        (9, 8, 1, 5),
        (10, 16, 1, 10),
        # In whole batches: four chunks of 13 would be 16 batches of four, these are 13.
        (50, 16, 4, 16),
        (9, 8, 2, 6),
        # But no more than are allowed at a time.
        (50, 6, 4, 6),
        (50, 3, 4, 3),
    ],
)
def test_the_length_of_chunks(count, limit, batch, length):
    assert chunk_length([track(count), track(2)], limit, batch) == length


def test_tracks_go_in_step():
    found = [[(part.start, part.stop) for part in parts] for parts in chunks([track(5), track(2)], 2)]
    assert found == [[(0, 2), (0, 2)], [(2, 4), (2, 2)], [(4, 5), (2, 2)]]


def test_chunks_go_on():
    assert [part for (part,) in chunks([track(10)], 4, first=8)] == [slice(8, 10)]
