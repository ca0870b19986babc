"""What the C library and XLA are told before they start, for speed on the CPU (docs/notes.md)."""

import os
import sys
from importlib.metadata import version

TUNABLES = "GLIBC_TUNABLES"
# Huge pages; and free memory stays with the process, but for blocks above 32 MB, the most that glibc allows.
KEPT = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1000000000000"

FLAGS = "XLA_FLAGS"
# All that XLA's CPU backend may leave to YNNPACK: matrix products. By default convolutions too.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
MATRIX_PRODUCTS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# XLA ends the process at a flag that it does not know.
KNOWN_TO = "0.10."


def set_up_process() -> None:
    """Makes this process keep its memory, and gives XLA its flags.

    For script files, first thing in their `if __name__ == "__main__":`, before any use of JAX: on Linux the script
    starts once more. What the user has said in `GLIBC_TUNABLES` and `XLA_FLAGS` stays.
    """
    _keep_memory()
    _set_xla_flags()


def _keep_memory() -> None:
    """Starts the program again where the C library would give memory back.

    On the CPU, XLA frees the memory of each step and asks for it anew: pages that the system has to clear again took
    a quarter of the time of training. glibc reads the settings once, when the process starts, and other systems never.
    """
    if sys.platform == "linux" and TUNABLES not in os.environ:
        os.environ[TUNABLES] = KEPT
        # What is not written yet would be lost.
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _set_xla_flags() -> None:
    """Lets Eigen compute convolutions on the CPU, which YNNPACK does more slowly."""
    flags = os.environ.get(FLAGS, "")
    if YNNPACK not in flags and version("jaxlib").startswith(KNOWN_TO):
        os.environ[FLAGS] = f"{flags} --{YNNPACK}={MATRIX_PRODUCTS}".strip()
