"""Batches made ahead of the training step and in order, by threads or by processes of their own (grain)."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator

import grain
import numpy as np
from absl import flags

from svp_jax.errors import UserError

Samples = Callable[[int, np.ndarray], dict[str, np.ndarray]]
"""(step, rows int [b] of the global batch) -> arrays with leading axis b, functions of step and row alone. With
processes it is pickled into each, so what is large in it should stay on disk."""

# In what samples give: of each row the capture (from 0) and its frame, int [b, 2]. It stays on the host, to be named
# where something is wrong with the batch; samples of other things leave it out.
ORIGIN = "origin"

# Of this process, where there are no others.
THREADS = 2
# Batches that are ready before they are asked for: of all threads together, and of each process.
READY = 4
READY_EACH = 2
# Step numbers are uint32 in the training step.
END = 2**32


@contextlib.contextmanager
def batches(samples: Samples, rows: np.ndarray, start: int, processes: int) -> Iterator[Iterator[dict]]:
    """Gives an iterator over the rows `rows` of the batches start, start + 1, ...; without end.

    When the block ends, however it does, the processes are gone; threads end with the batch that they are at.

    Args:
        samples: with processes, something that can be pickled. Programs that train need the usual
            `if __name__ == "__main__":`, since each process imports them again.
        processes: how many make batches; 0: threads of this process.

    Raises:
        UserError: within the block, from the iterator: what `samples` raised, or a process ended by itself.
    """
    numbers = grain.MapDataset.range(start, END).map(functools.partial(_share, samples, np.asarray(rows)))
    if processes:
        # grain asks for one of its flags, which nobody parses here.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=processes, per_worker_buffer_size=READY_EACH)
        # The processes themselves read ahead, so they need no threads.
        alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        made = numbers.to_iter_dataset(alone).mp_prefetch(options, worker_init_fn=_start_process)
    else:
        made = numbers.to_iter_dataset(grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READY))
    iterator = iter(made)
    checked = _checked(iterator)
    try:
        yield checked
    finally:
        iterator.close()
        # Whoever keeps it keeps nothing of grain's, which complains where it lasts to the end of the program.
        checked.close()


def _share(samples: Samples, rows: np.ndarray, step: int) -> dict[str, np.ndarray]:
    return samples(int(step), rows)


def _checked(iterator: Iterator[dict]) -> Iterator[dict]:
    try:
        yield from iterator
    except UserError as error:
        # Without what grain adds to it.
        raise UserError(str(error)) from None
    except RuntimeError as error:
        if "process was terminated" not in str(error):
            raise
        raise UserError(
            f"a process that makes batches ended by itself ({str(error).split('. ')[0]}), as where memory or shared "
            "memory is used up (docker run --shm-size); give more, or set loader_processes: 0"
        ) from None


def _start_process(number: int, count: int) -> None:
    """What a process does before it makes batches."""
    import cv2
    import jax

    # It computes nothing with JAX, and must not take an accelerator from the training.
    jax.config.update("jax_platforms", "cpu")
    # One thread each: there are enough processes.
    cv2.setNumThreads(1)
    # Signals that go to all processes of a run are for the first one: it saves, and then ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Nobody else ends a process whose parent was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
