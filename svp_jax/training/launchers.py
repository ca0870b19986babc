"""What launchers say in the environment about the processes of a run: Open MPI, SLURM, indexed Kubernetes jobs.

Read here and not left to JAX, which gives each process a single GPU wherever one of the first two started it, does not
find process 0 of Open MPI 5, and wants another package and more rights in Kubernetes.
"""

import os
import re
import socket
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from svp_jax.errors import UserError

# Above those that systems hand out themselves.
FIRST_PORT, PORTS = 61440, 4096


@dataclass(frozen=True)
class Place:
    """One process among those of a run.

    Attributes:
        launcher: its name.
        coordinator: HOST:PORT of process 0; None where the launcher does not tell.
        processes: how many there are; None where the launcher does not tell.
        process: number of this one, from 0.
        gpu: number of the one GPU of this machine that it takes, where several share the machine; None: all it sees.
    """

    launcher: str
    coordinator: str | None
    processes: int | None
    process: int
    gpu: int | None = None


def launched(environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place, None where nothing says that there are others.

    Warns where SLURM gave the job several tasks, and this is none of them.
    """
    # In this order: mpirun itself may have been started by srun.
    place = _open_mpi(environment) or _slurm(environment) or _kubernetes(environment)
    return None if place is None or place.processes == 1 else place


def _open_mpi(environment: Mapping[str, str]) -> Place | None:
    if "OMPI_COMM_WORLD_SIZE" not in environment:
        return None
    coordinator = None
    # "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911": number of the job, addresses of mpirun's machine; not in
    # version 5. Process 0 runs there unless the list of hosts leaves it out.
    found = re.match(r"(\d+)\..*?(?:tcp://([^,:]+)|tcp6://\[([^,\]]+))", environment.get("OMPI_MCA_orte_hnp_uri", ""))
    if found:
        host = found[2] or f"[{found[3]}]"
        coordinator = f"{host}:{_port(int(found[1]) // 4096)}"
    shared = int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1)) > 1
    return Place(
        "Open MPI",
        coordinator,
        int(environment["OMPI_COMM_WORLD_SIZE"]),
        int(environment["OMPI_COMM_WORLD_RANK"]),
        _gpu(environment, int(environment["OMPI_COMM_WORLD_LOCAL_RANK"])) if shared else None,
    )


# Set where each task has GPUs of its own.
_BOUND = {"SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK"}


def _slurm(environment: Mapping[str, str]) -> Place | None:
    if "SLURM_STEP_NODELIST" not in environment or "SLURM_PROCID" not in environment:
        if int(environment.get("SLURM_NTASKS", 1)) > 1:
            warnings.warn(
                f"SLURM gives this job {environment['SLURM_NTASKS']} tasks, but srun did not start this one: it "
                "trains alone; put srun before svp to train with all",
                stacklevel=4,
            )
        return None
    # "node[007-010,012],other": the first is node007.
    first = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", environment["SLURM_STEP_NODELIST"])
    # "2(x3),1": tasks of each node.
    on_nodes = re.findall(r"(\d+)(?:\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    shared = any(int(tasks) > 1 for tasks in on_nodes)
    return Place(
        "SLURM",
        f"{first[1]}{first[2] or ''}:{_port(int(environment.get('SLURM_JOB_ID', 0)))}",
        int(environment.get("SLURM_STEP_NUM_TASKS") or environment["SLURM_NTASKS"]),
        int(environment["SLURM_PROCID"]),
        # Of --gpus-per-task every task sees its own.
        _gpu(environment, int(environment["SLURM_LOCALID"])) if shared and not _BOUND & environment.keys() else None,
    )


def _kubernetes(environment: Mapping[str, str]) -> Place | None:
    if "KUBERNETES_SERVICE_HOST" not in environment or "JOB_COMPLETION_INDEX" not in environment:
        return None
    index = environment["JOB_COMPLETION_INDEX"]
    # JOB-INDEX.SERVICE.NAMESPACE...; without a service (`subdomain`) pods have no names that others know.
    name, _, domain = socket.getfqdn().partition(".")
    known = domain and name.endswith(f"-{index}")
    coordinator = f"{name.removesuffix(index)}0.{domain}:{FIRST_PORT}" if known else None
    return Place("Kubernetes", coordinator, None, int(index))


def _gpu(environment: Mapping[str, str], number: int) -> int | None:
    """Number of the GPU that process `number` of a machine takes, of those that it sees."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return number
    count = len(visible.split(","))
    if count == 1:
        return None
    if number >= count:
        raise UserError(
            f"CUDA_VISIBLE_DEVICES is {visible}, and this is process {number} of its machine: start as many as it has "
            "GPUs, or one"
        )
    return number


def _port(job: int) -> int:
    """The same in all processes of a job, and others in other jobs that may share a machine."""
    return FIRST_PORT + job % PORTS
