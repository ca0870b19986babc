"""What XLA is told by the environment, before it starts."""

import os
from importlib.metadata import version

FLAGS = "XLA_FLAGS"
# All that XLA's CPU backend may leave to YNNPACK: matrix products. By default convolutions too.
YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
MATRIX_PRODUCTS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# XLA ends the process at a flag that it does not know.
KNOWN_TO = "0.10."


def set_xla_flags() -> None:
    """Lets Eigen compute convolutions on the CPU, which YNNPACK does more slowly (docs/notes.md).

    Counts only before the process's first use of JAX. What the user has said about it stays.
    """
    flags = os.environ.get(FLAGS, "")
    if YNNPACK not in flags and version("jaxlib").startswith(KNOWN_TO):
        os.environ[FLAGS] = f"{flags} --{YNNPACK}={MATRIX_PRODUCTS}".strip()
