"""CPU cores as devices."""

import subprocess
import sys
import warnings

import jax
import pytest

from svp_jax.training.devices import make_cpu_devices


def test_as_many_as_asked_for():
    program = (
        "import jax; from svp_jax.training.devices import make_cpu_devices; "
        "make_cpu_devices(3); print(jax.local_device_count())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def test_too_late_is_said():
    there = jax.local_device_count()
    with pytest.warns(UserWarning, match=f"cpu_devices is {there + 1}, but JAX runs already with {there}"):
        make_cpu_devices(there + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_cpu_devices(0)
        make_cpu_devices(there)
    assert jax.local_device_count() == there
