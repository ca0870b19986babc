"""One tiny base and capture for the tests of this folder, and a cache, since many runs compile the same step."""

import jax
import pytest
from factories import make_base, make_capture


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.5,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="session")
def capture_folder(tmp_path_factory):
    """20 frames, 16 of them to train on, of which number 5 has no face."""
    return make_capture(tmp_path_factory.mktemp("capture") / "capture", 20, without_face=(5,))
