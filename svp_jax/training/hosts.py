"""Several processes as one run, usually one for each machine: how they find each other, wait and agree.

All of them make the same calls on the same folders, which they must share (NFS, Lustre); the first one writes there.
They wait for each other by way of process 0's machine and not of the devices, whose own messages must come within
half a minute on CPUs.
"""

import contextlib
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from svp_jax.errors import UserError
from svp_jax.manifest import partial_folder, staged_folder
from svp_jax.training.launchers import launched

# Seconds: encoding a long capture takes hours at most.
LONGEST_WAIT = 7 * 24 * 3600
# Seconds that a process which ends waits for the others to end too, before all that are left are ended.
LAST_WAIT = 60
# Errors of process 0 as the others hear of them.
LONGEST_MESSAGE = 2000
# Every process counts alike, as all make the same calls.
_waits, _steps = itertools.count(), itertools.count()


def connect(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, timeout: int = 300
) -> None:
    """Makes this process one of several where flags or its launcher (`launchers.py`) say so; call it first of all.

    Args:
        coordinator: HOST:PORT of process 0, which every process can reach; the launcher's where None, as the others.
        processes: how many there are; 1: this one trains alone, whatever started it.
        process: number of this one, from 0.
        timeout: seconds in which all must have started.

    Raises:
        UserError: some of the three are neither given nor known, they are no such numbers, process 0 cannot be reached,
            or the processes have different numbers of devices.
    """
    place = launched() if processes != 1 else None
    given = (coordinator, processes, process)
    if place is None and (processes == 1 or given == (None,) * 3):
        if (process or 0) != 0:
            raise UserError(f"--process {process}: allowed is 0, as --processes is 1")
        return
    known = (place.coordinator, place.processes, place.process) if place else (None,) * 3
    coordinator, processes, process = (k if g is None else g for g, k in zip(given, known, strict=True))
    flags = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    if absent := [flag for flag, value in flags.items() if value is None]:
        why = f"{place.launcher} does not tell" if place else "--coordinator, --processes and --process belong together"
        alone = "; or give --processes 1 to train alone" if place else ""
        raise UserError(f"{' and '.join(absent)} missing: {why}{alone}; see docs/scaling.md")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator {coordinator}: give HOST:PORT, such as node0:8476")
    if processes < 1:
        raise UserError(f"--processes {processes}: allowed are 1 or more")
    if not 0 <= process < processes:
        raise UserError(f"--process {process}: allowed are 0 to {processes - 1}, as --processes is {processes}")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            local_device_ids=None if place is None or place.gpu is None else [place.gpu],
            cluster_detection_method="deactivate",
            initialization_timeout=timeout,
            shutdown_timeout_seconds=LAST_WAIT,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {processes} processes do not find each other at {coordinator}: {str(error).splitlines()[0][:200]}; "
            "start all of them, each with a number of its own, and check that every machine reaches this address"
        ) from None
    counts = Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        found = ", ".join(str(counts[number]) for number in range(processes))
        raise UserError(f"the processes have {found} devices; all must have as many (CUDA_VISIBLE_DEVICES)")


def say(text: str) -> None:
    """Prints it on stderr in the first process."""
    if is_first():
        print(text, file=sys.stderr)


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has called it with the same `what`."""
    if jax.process_count() > 1:
        wait = ocp.multihost.get_barrier_sync_fn()
        wait(key=f"svp_jax {next(_waits)} {what}", timeout_ms=1000 * LONGEST_WAIT)


def as_first_says(value: int | np.ndarray) -> np.ndarray:
    """What the first process calls this with, in all; of one shape."""
    if jax.process_count() == 1:
        return np.asarray(value)
    wait_for_all("the first one's word")
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def first_does(action: Callable[[], object]) -> None:
    """Does it in the first process, while the others wait.

    Raises:
        UserError: it did, in the first process; in all.
    """
    message = ""
    if is_first():
        try:
            action()
        except UserError as error:
            message = str(error)
            if jax.process_count() == 1:
                raise
    text = np.zeros(LONGEST_MESSAGE, np.uint8)
    encoded = np.frombuffer(message.encode()[:LONGEST_MESSAGE], np.uint8)
    text[: len(encoded)] = encoded
    if message := bytes(as_first_says(text)).rstrip(b"\0").decode(errors="ignore"):
        raise UserError(message)


def asked_to_stop() -> bool:
    """Whether any process was asked to stop; called after every step, all get the same answer at the same step."""
    # JAX handles the signal and agrees on a coming number. Those of steps begin anew in every stage.
    return multihost_utils.reached_preemption_sync_point(next(_steps))


@contextlib.contextmanager
def interrupt_stops_all() -> Iterator[None]:
    """While the block lasts, Ctrl-C counts as a SIGTERM, of which JAX tells the other processes; the next as usual."""
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame) -> None:
        signal.signal(signal.SIGINT, before)
        os.kill(os.getpid(), signal.SIGTERM)

    # As in the background of a script, where Ctrl-C is not meant.
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def shared_folder(out: Path, kind: str, force: bool) -> Iterator[Path]:
    """As `staged_folder` with `resume`, for all processes: the first makes and finishes it."""
    with contextlib.ExitStack() as stack:
        first_does(lambda: stack.enter_context(staged_folder(out, kind, force, resume=True)))
        yield partial_folder(out)
        # It is renamed when nobody uses it any more,
        wait_for_all(f"{kind} done")
    # and there for all when they go on.
    wait_for_all(f"{kind} in its place")
