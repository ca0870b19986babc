"""What a run needs, by the compiler's account, and what is said where it does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from toy_run import SETTINGS

from svp_jax.errors import UserError
from svp_jax.training.run import HOW
from svp_jax.training.step import memory
from svp_jax.training.step.devices import Devices
from svp_jax.training.step.memory import GIB, MemoryNeed, check_memory, explain_out_of_memory, need, remedies

NEED = MemoryNeed(state=12 * GIB, frozen=2 * GIB, gradients=4 * GIB, activations=16 * GIB)


def test_what_the_compiler_says_is_shared_among_state_frozen_and_the_rest():
    devices = Devices.of("pmap")
    x, frozen = jnp.zeros((256, 256)), jnp.zeros((256, 128))

    def step(x, frozen):
        return x @ jnp.sin(x), frozen.sum()

    compiled = jax.jit(step).lower(x, frozen).compile()
    found = need({"trained": x, "moment": x}, x, frozen, compiled, devices)
    assert found.state == 2 * x.nbytes and found.frozen == frozen.nbytes
    # The product is an output, the sine lies beside it.
    assert 2 * x.nbytes <= found.gradients + found.activations < 3 * x.nbytes
    assert found.gradients == x.nbytes
    assert found.total == found.state + found.frozen + found.gradients + found.activations


def test_before_the_steps_the_gradients_are_counted():
    x = jnp.zeros((10, 10))
    assert MemoryNeed.before_steps([x, x, x], x, [], Devices.of("pmap")) == MemoryNeed(1200, 0, 400, 0)


def test_what_fits_is_said(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 80 * GIB)
    line = check_memory("details", NEED, Devices.of("pmap"), SETTINGS)
    assert line.startswith("details: memory on each of 1 x cpu: 34.0 GiB (state 12.0 GiB, frozen parameters 2.0 GiB, ")
    assert line.endswith("of 80.0 GiB")


def test_what_does_not_fit_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 24 * GIB)
    settings = dataclasses.replace(SETTINGS, batch_size=8)
    with pytest.raises(UserError) as caught:
        check_memory("details", NEED, Devices.of("pmap"), settings)
    message = str(caught.value)
    # Gradients of 4 GiB stay, however small a part of the batch is: 16 of activations, by 4 it would be 22.
    for words in (
        "too much",
        "precision: bfloat16 (about 25.0 GiB)",
        "accumulation: 4 (about 22.0 GiB)",
        "remat: light, or full",
        "optimizer_state: bfloat16 (about 30.0 GiB)",
    ):
        assert words in message
    assert "fsdp" not in message and "\n" not in message


def test_a_run_that_has_begun_can_follow_the_first_advice(monkeypatch):
    """What is named before "or start anew" is what may change when a run goes on."""
    monkeypatch.setattr(memory, "available", lambda device: 24 * GIB)
    settings = dataclasses.replace(SETTINGS, batch_size=8)
    going_on, anew = remedies(NEED, Devices.of("pmap"), settings).split("; or start anew with ")
    keys = {part.split(":")[0] for part in going_on.removeprefix("go on with ").split("; ") if ":" in part}
    assert keys == {"accumulation", "remat"} and {f"config.{key}" for key in keys} <= HOW
    assert "precision: bfloat16" in anew


def test_before_the_steps_nothing_is_said_of_activations(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 10 * GIB)
    with pytest.raises(UserError) as caught:
        check_memory("details", dataclasses.replace(NEED, activations=0), Devices.of("pmap"), SETTINGS)
    assert "accumulation" not in str(caught.value) and "remat" not in str(caught.value)


def test_the_vae_pass_has_settings_of_its_own(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 10 * GIB)
    with pytest.raises(UserError, match=r"too much; start anew with a lower vae\.batch_size, or vae\.trainable: none"):
        check_memory("vae", NEED, Devices.of("pmap"), dataclasses.replace(SETTINGS, section="vae"))


def test_no_advice_to_do_what_is_done(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1 * GIB)
    settings = dataclasses.replace(SETTINGS, batch_size=1, precision="bfloat16", remat="full")
    settings = dataclasses.replace(settings, optimizer=dataclasses.replace(settings.optimizer, state="factored"))
    with pytest.raises(UserError) as caught:
        check_memory("details", NEED, Devices.of("pmap"), settings)
    assert str(caught.value).endswith(
        "too much; go on with a device with more memory; or start anew with trainable: locked; a smaller --size of the "
        "capture"
    )


def test_what_a_device_says_when_it_is_out_of_memory():
    advice = "a smaller batch"
    with (
        pytest.raises(UserError, match=r"^the device is out of memory: a smaller batch$"),
        explain_out_of_memory(advice),
    ):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"), explain_out_of_memory(advice):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


def test_the_cpu_has_the_memory_of_the_machine():
    assert 1 * GIB < memory.available(jax.devices()[0]) < 10000 * GIB
