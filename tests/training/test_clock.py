"""What counts as training, and what of it as waiting."""

from types import SimpleNamespace

import pytest

from svp_jax.training.watching import clock
from svp_jax.training.watching.clock import Clock


@pytest.fixture
def passes(monkeypatch):
    """Lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_(seconds: float) -> None:
        now[0] += seconds

    return pass_


def test_pauses_do_not_count_and_waiting_does(passes):
    watch = Clock()
    passes(1.0)
    with watch.waiting():
        passes(2.0)
    with watch.paused():
        passes(50.0)
    passes(4.0)
    with watch.waiting():
        passes(3.0)
    assert (watch.seconds, watch.waited) == (10.0, 5.0)


def test_it_begins_again(passes):
    watch = Clock()
    with watch.waiting():
        passes(2.0)
    watch.restart()
    passes(0.5)
    assert (watch.seconds, watch.waited) == (0.5, 0.0)
