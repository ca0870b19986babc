"""Seconds that the parts of a render take."""

import time
from collections import defaultdict
from contextlib import contextmanager


class Stopwatch:
    """Seconds of each named part, summed up, and of its first run, which includes compiling."""

    def __init__(self):
        self.times = defaultdict(list)

    @contextmanager
    def __call__(self, name: str):
        start = time.perf_counter()
        yield
        self.times[name].append(time.perf_counter() - start)

    def totals(self) -> dict[str, float]:
        """Total of each part, and of its first run as `NAME_first`."""
        return {name: round(sum(times), 3) for name, times in self.times.items()} | {
            f"{name}_first": round(times[0], 3) for name, times in self.times.items() if len(times) > 1
        }
