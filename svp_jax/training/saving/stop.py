"""Stopping in order: SIGTERM, as batch systems send it before they kill, and Ctrl-C become a flag for the loop."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopRequest:
    """Whether a signal asked to stop.

    Attributes:
        signal: the first that came, or None. A shell's exit code for it is 128 + its number.
        loops: how many loops look at the flag now.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self.loops = 0

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """While the block lasts, a loop looks at the flag; `loops` counts them."""
        with _counting:
            self.loops += 1
        try:
            yield
        finally:
            with _counting:
                self.loops -= 1

    @property
    def requested(self) -> bool:
        return self.signal is not None


_counting = threading.Lock()
# Of the block that the main thread is in.
_current: StopRequest | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the block lasts, SIGTERM and SIGINT set the flag that it is given, and do nothing else.

    A SIGINT when the flag is set raises KeyboardInterrupt, as usual. A signal that was ignored before stays ignored.
    Only the main thread can handle signals: a block within another, or in another thread while the main thread is in
    one, shares that one's flag. In another thread without one the flag is never set.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current or StopRequest()
        return
    request = StopRequest()

    def handle(number: int, frame) -> None:
        if number == signal.SIGINT and request.requested:
            raise KeyboardInterrupt
        request.signal = request.signal or signal.Signals(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # As in the background of a script, where Ctrl-C is not meant.
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    _current = request
    try:
        for number in before:
            signal.signal(number, handle)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _current = None
