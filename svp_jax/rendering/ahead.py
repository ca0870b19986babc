"""Work that a thread of its own does ahead of whoever needs it: in order, and never more than so many pieces."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Piece = TypeVar("Piece")
# How long a thread that has a piece ready looks away before it asks whether anybody still wants it.
LOOK_AWAY = 0.1
_END = object()


@contextlib.contextmanager
def ahead(pieces: Iterable[Piece], count: int = 1) -> Iterator[Iterator[Piece]]:
    """Gives an iterator over `pieces`, which a thread of its own goes through, `count` of them ahead.

    What goes wrong there is raised here, where its piece would have come. When the block ends the thread ends with the
    piece that it is at.
    """
    ready: queue.Queue = queue.Queue(count)
    stop = threading.Event()

    def offer(item: object) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put(item, timeout=LOOK_AWAY)

    def work() -> None:
        try:
            for piece in pieces:
                offer((piece, None))
                if stop.is_set():
                    return
            offer((_END, None))
        except BaseException as error:
            offer((_END, error))

    def taken() -> Iterator[Piece]:
        while True:
            piece, error = ready.get()
            if error is not None:
                raise error
            if piece is _END:
                return
            yield piece

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()
