"""One tiny base and capture for the tests of this folder, and a cache, since many runs compile the same step."""

import shutil

import jax
import numpy as np
import pytest
from factories import UNET, make_base, make_capture, random_model

from svp_jax.models import UNet, UNetConfig
from svp_jax.weights.folder import save_model

ONE_LEVEL = {
    **UNET,
    "block_out_channels": [8],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
}


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
    """With a UNet of one level, which compiles in half the time."""
    folder = make_base(tmp_path_factory.mktemp("base") / "base")
    unet = random_model(UNet, UNetConfig.from_json(ONE_LEVEL), np.random.default_rng(0))
    shutil.rmtree(folder / "unet")
    save_model(unet, folder / "unet")
    return folder


@pytest.fixture(scope="session")
def capture_folder(tmp_path_factory):
    """20 frames, 16 of them to train on, of which number 5 has no face."""
    return make_capture(tmp_path_factory.mktemp("capture") / "capture", 20, without_face=(5,))
