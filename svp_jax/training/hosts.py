"""Several processes as one run, usually one for each machine: how they find each other and wait for each other.

All of them make the same calls on the same folders, which they must share (NFS, Lustre); the first one writes there.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from svp_jax.errors import UserError
from svp_jax.manifest import partial_folder, staged_folder

# By what it says that there are several processes. The first two start one for each task, and JAX finds address and
# number itself; a pod of an indexed Kubernetes job is told by us, as JAX would need another package and more rights.
SLURM, OPEN_MPI, KUBERNETES = "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX"


def connect(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Makes this process one of several where flags or the environment (SLURM, Open MPI) say so; call it first of all.

    Args:
        coordinator: HOST:PORT of process 0, which every process can reach.
        processes: how many there are.
        process: number of this one, from 0.

    Raises:
        UserError: only some of the three are given, they are no such numbers, or process 0 cannot be reached.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    absent = [flag for flag, value in given.items() if value is None]
    if not absent:
        if ":" not in coordinator or not coordinator.rsplit(":", 1)[1].isdecimal():
            raise UserError(f"--coordinator {coordinator}: give HOST:PORT, such as node0:8476")
        if not 0 <= process < processes:
            raise UserError(f"--process {process}: allowed are 0 to {processes - 1}, as --processes is {processes}")
    elif len(absent) < len(given):
        raise UserError(f"{' and '.join(absent)} missing: --coordinator, --processes and --process belong together")
    elif not any(int(os.environ.get(name, 1)) > 1 for name in (SLURM, OPEN_MPI)):
        return
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the processes do not find each other: {str(error).splitlines()[0][:200]}; start all of them, and check "
            "that process 0 can be reached at --coordinator"
        ) from None


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has called it with the same `what`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def as_first_says(value: bool) -> bool:
    """What the first process calls this with, in all."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.array(value)))


@contextlib.contextmanager
def shared_folder(out: Path, kind: str, force: bool) -> Iterator[Path]:
    """As `staged_folder` with `resume`, for all processes: the first makes and finishes it."""
    if is_first():
        with staged_folder(out, kind, force, resume=True) as folder:
            wait_for_all(f"{kind} begun")
            yield folder
            wait_for_all(f"{kind} done")
    else:
        wait_for_all(f"{kind} begun")
        yield partial_folder(out)
        wait_for_all(f"{kind} done")
