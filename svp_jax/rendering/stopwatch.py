"""Seconds that the parts of a render take."""

import time
from contextlib import contextmanager


class Stopwatch:
    """Seconds of each named part, summed up, and as `NAME_first` of its first run, which includes compiling.

    Args:
        seconds: what an interrupted run had counted.
    """

    def __init__(self, seconds: dict[str, float]):
        self.seconds = dict(seconds)

    @contextmanager
    def __call__(self, name: str):
        start = time.perf_counter()
        yield
        took = time.perf_counter() - start
        self.seconds.setdefault(f"{name}_first", took)
        self.seconds[name] = self.seconds.get(name, 0.0) + took

    def totals(self) -> dict[str, float]:
        """All of them, to the millisecond; other threads may go on counting."""
        return {name: round(seconds, 3) for name, seconds in dict(self.seconds).items()}
