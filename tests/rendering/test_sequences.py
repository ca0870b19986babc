"""Chunks of tracks: even, in step, and empty behind a track's end."""

import numpy as np
import pytest

from svp_jax.rendering.sequences import Track, chunks


def track(count: int) -> Track:
    return Track(None, np.arange(100, 100 + count), np.arange(count) == 0)


@pytest.mark.parametrize(("limit", "lengths"), [(1, [1] * 10), (3, [3, 3, 3, 1]), (4, [4, 4, 2]), (16, [10])])
def test_chunks(limit, lengths):
    parts = [part for (part,) in chunks([track(10)], limit)]
    assert [part.stop - part.start for part in parts] == lengths
    assert [parts[0].start, *(part.stop for part in parts)] == [0, *np.cumsum(lengths)]


def test_chunks_are_even():
    # 8 + 1 would fill the second chunk up with seven frames of waste.
    assert [part.stop - part.start for (part,) in chunks([track(9)], 8)] == [5, 4]


def test_tracks_go_in_step():
    found = [[(part.start, part.stop) for part in parts] for parts in chunks([track(5), track(2)], 2)]
    assert found == [[(0, 2), (0, 2)], [(2, 4), (2, 2)], [(4, 5), (2, 2)]]


def test_chunks_go_on():
    assert [part for (part,) in chunks([track(10)], 4, first=8)] == [slice(8, 10)]
