"""`svp`, and `python -m svp_jax`: the command line in a process that keeps its memory and has told XLA its flags."""

import os
import sys

from svp_jax.cli import main as run
from svp_jax.xla_flags import set_xla_flags

TUNABLES = "GLIBC_TUNABLES"
# Huge pages; and memory that is free stays with the process, in one heap for all threads.
KEPT = ":".join(
    f"glibc.malloc.{setting}" for setting in ("hugetlb=1", "mmap_max=0", "trim_threshold=1000000000000", "arena_max=1")
)


def main() -> None:
    """Starts itself again where the C library would give memory back, then runs the command line.

    On the CPU, XLA frees the memory of each step and asks for it anew: pages that the system has to clear again took
    a third of the time of training (docs/notes.md). glibc reads the settings once, when the process starts, and other
    systems never.
    """
    if sys.platform == "linux" and TUNABLES not in os.environ:
        os.environ[TUNABLES] = KEPT
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    set_xla_flags()
    run()


if __name__ == "__main__":
    main()
