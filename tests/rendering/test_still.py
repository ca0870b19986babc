"""Which maps of Stage I are taken again: by difference from the last drawn one, whatever the chunks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.manifest import PROGRESS, read_manifest
from svp_jax.rendering import pipeline
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render
from svp_jax.rendering.still import Still


def flat(levels) -> np.ndarray:
    return np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def starts(*places, count=6):
    return np.isin(np.arange(count), places)


def test_slow_motion_adds_up():
    drawn, shown = Still(2.0).choose(flat([10, 11, 12, 13, 14, 15]), starts(0))
    assert drawn.tolist() == [0, 3] and shown.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_shot_starts_with_a_map_of_its_own():
    drawn, _ = Still(2.0).choose(flat([10] * 6), starts(0, 4))
    assert drawn.tolist() == [0, 4]


def test_without_a_threshold_every_frame_is_drawn():
    drawn, shown = Still(0.0).choose(flat([10] * 6), starts(0))
    assert drawn.tolist() == shown.tolist() == [0, 1, 2, 3, 4, 5]


def test_brightness_that_falls_counts_as_much():
    """Grey levels are unsigned."""
    drawn, _ = Still(2.0).choose(flat([10, 9, 7, 0, 0, 255]), starts(0))
    assert drawn.tolist() == [0, 2, 3, 5]


@given(
    levels=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    length=st.integers(1, 8),
    threshold=st.floats(0, 5),
)
def test_chunks_change_nothing(levels, length, threshold):
    conditions, first = flat(levels), starts(0, count=len(levels))

    def maps(length):
        """Each frame's map is its own number where it is drawn."""
        state, found = Still(threshold), []
        for start in range(0, len(levels), length):
            part = slice(start, start + length)
            drawn, shown = state.choose(conditions[part], first[part])
            found += state.maps(flat(start + drawn), shown)[:, 0, 0, 0].tolist()
        return found, state.count

    assert maps(length) == maps(len(levels))


def test_a_render_with_still_frames(quiet, avatar_folder, driver_folder, tmp_path, monkeypatch):
    counts = []
    original = pipeline._sampled

    def counted(sampler, stage, frames):
        counts.append((stage, len(frames[0].numbers)))
        return original(sampler, stage, frames)

    monkeypatch.setattr(pipeline, "_sampled", counted)
    options = {"steps": 2, "frames": "all", "chunk": 3, "still": 255.0}
    out = render(avatar_folder, driver_folder, tmp_path / "whole", RenderOptions(**options))
    # Its two shots and the frame after the gap; the chunk of frames that all stand still draws none.
    assert sum(count for stage, count in counts if stage == "outlines") == 3
    assert sum(count for stage, count in counts if stage == "details") == 8

    writes = []

    def stopped(self, *arguments):
        if len(writes) == 2:
            raise KeyboardInterrupt
        writes.append(1)
        return write(self, *arguments)

    write = pipeline.Progress.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline.Progress, "write", stopped)
        render(avatar_folder, driver_folder, tmp_path / "out", RenderOptions(**options))
    assert (tmp_path / "out.partial" / PROGRESS).exists()
    again = render(avatar_folder, driver_folder, tmp_path / "out", RenderOptions(**options))
    assert read_manifest(again, "render")["files"] == read_manifest(out, "render")["files"]
