"""Programs that tests start in processes of their own, on so many virtual devices."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parent


def start(program: ModuleType, *arguments: object, devices: int = 1, before: Sequence[str] = ()) -> subprocess.Popen:
    """Runs the module's file; whoever starts it also ends it.

    Args:
        before: a command that runs it, such as strace.
    """
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        # Of XLA, which tells of every process that it connects.
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent))),
    }
    command = [*before, sys.executable, program.__file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def killed_at_the_end() -> Iterator[Callable[..., subprocess.Popen]]:
    """Gives `start`; what it has started and still runs when the block ends is killed."""
    started = []

    def start_one(*arguments: object, **options: object) -> subprocess.Popen:
        started.append(start(*arguments, **options))
        return started[-1]

    try:
        yield start_one
    finally:
        for program in started:
            program.kill()
            program.wait()


def finish(*programs: subprocess.Popen, seconds: float = 600) -> list[tuple[str, str]]:
    """(the last line that it printed, all that it said on stderr) of each; all must have ended well."""
    said = [program.communicate(timeout=seconds) for program in programs]
    # Where one fails, others that wait for it do too: only all of them tell why.
    failed = [f"process {n}:\n{said[n][1][-3000:]}" for n, program in enumerate(programs) if program.returncode != 0]
    assert not failed, "\n".join(failed)
    return [(out.splitlines()[-1], errors) for out, errors in said]


def free_port() -> int:
    """One that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
