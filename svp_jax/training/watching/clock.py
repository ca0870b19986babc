"""How long a stretch of training took, and how much of it the device waited for data."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Runs from its making, or from `restart`.

    Attributes:
        waited: seconds within `waiting`.
    """

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Begins again at zero."""
        self._began, self.waited = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Since then, without pauses."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within does not count."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began
