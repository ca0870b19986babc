"""What all tests share: exact matrix products, the CPU, and the folder of real test data."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos and models: $SVP_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("SVP_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"shared data not found at {folder}")
    return folder
