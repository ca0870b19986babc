"""`svp`, and `python -m svp_jax`: the command line in a process that keeps its memory and has told XLA its flags."""

import os
import sys

from svp_jax.cli import main as run
from svp_jax.xla_flags import set_xla_flags

TUNABLES = "GLIBC_TUNABLES"
# Huge pages; and free memory stays with the process, but for blocks above 32 MB, the most that glibc allows.
KEPT = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1000000000000"


def main() -> None:
    """Starts itself again where the C library would give memory back, then runs the command line.

    On the CPU, XLA frees the memory of each step and asks for it anew: pages that the system has to clear again took
    a quarter of the time of training (docs/notes.md). glibc reads the settings once, when the process starts, and other
    systems never.
    """
    if sys.platform == "linux" and TUNABLES not in os.environ:
        os.environ[TUNABLES] = KEPT
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    set_xla_flags()
    run()


if __name__ == "__main__":
    main()
