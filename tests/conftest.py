"""What all tests share: exact matrix products, the CPU, and the folder of real test data."""

import gc
import os
import resource
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


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Forgets what was compiled once it fills gigabytes: programs are kept as long as the process lives."""
    yield
    if Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        if pages * resource.getpagesize() > 3e9:
            jax.clear_caches()
            gc.collect()


@pytest.fixture
def traces(monkeypatch) -> list:
    """Grows by one with each program of a stage that is traced, and so compiled."""
    # Not for the tests that render nothing.
    from svp_jax.rendering import stage_sampler

    found, original = [], stage_sampler.sample_sequence

    def counted(*arguments, **settings):
        found.append(1)
        return original(*arguments, **settings)

    monkeypatch.setattr(stage_sampler, "sample_sequence", counted)
    return found
