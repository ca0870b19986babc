"""`svp`, and `python -m svp_jax`: the command line in a process that asks for huge pages and has told XLA its flags."""

import os
import sys

from svp_jax.cli import main as run
from svp_jax.xla_flags import set_xla_flags

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"


def main() -> None:
    """Starts itself again where the C library would hand out small pages, then runs the command line.

    On the CPU, XLA gets the memory of each step anew; in pages of 4 KB that took a quarter of the time of training
    (docs/notes.md). glibc reads the setting once, when the process starts, and other systems never.
    """
    if sys.platform == "linux" and TUNABLES not in os.environ:
        os.environ[TUNABLES] = HUGE_PAGES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    set_xla_flags()
    run()


if __name__ == "__main__":
    main()
