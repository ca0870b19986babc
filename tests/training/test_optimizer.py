"""AdamW in its three kinds of state, its learning rate, the moving average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_jax.training.step.moments import round_at_random
from svp_jax.training.step.optimizer import OptimizerSettings, ema_decay_at, make_optimizer, moving_average
from svp_jax.training.step.packing import Packing

SHAPES = {"kernel": (256, 384), "bias": (384,)}
RATES = tuple((name, 1.0) for name in SHAPES)
PACKING = Packing(small=(), large=tuple(SHAPES))


def test_warm_up_then_cosine():
    settings = OptimizerSettings(1.0, warmup_steps=4, decay="cosine", clip_norm=1.0, weight_decay=0.0)
    expected = [0.25, 0.4375, 0.625, 0.8125, *(0.5 * (1 + np.cos(np.pi * np.arange(8) / 8)))]
    np.testing.assert_allclose([settings.learning_rate_at(step, 12) for step in range(12)], expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_warm_up_takes_at_most_half_of_a_run(steps):
    settings = OptimizerSettings(0.5, warmup_steps=100, decay="constant", clip_norm=1.0, weight_decay=0.0)
    rates = [settings.learning_rate_at(step, steps) for step in range(steps)]
    assert rates[-1] == 0.5 and all(0 < rate <= 0.5 for rate in rates)


def test_it_is_adamw_on_clipped_gradients_at_a_rate_for_each_parameter():
    """Against optax.adamw, whose update is linear in the rate."""
    optimizer = make_optimizer(1.0, 0.1, (("a", 1.0), ("b", 0.2)), Packing(small=(), large=("a", "b")))
    reference = optax.adamw(1.0, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1)
    parameters = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}
    state, plain = optimizer.init(parameters), reference.init(parameters)
    gradient = {"a": jnp.array([0.3, 0.4]), "b": jnp.array([0.0])}  # a norm of 0.5
    for scale, clipped, rate in ((1.0, 1.0, 0.5), (100.0, 2.0, 0.25)):
        change, state = optimizer.update(
            optax.tree.scale(scale, gradient), state, parameters, learning_rate=rate, finite=True, key=None
        )
        expected, plain = reference.update(optax.tree.scale(clipped, gradient), plain, parameters)
        np.testing.assert_allclose(change["a"], rate * expected["a"], rtol=1e-5)
        np.testing.assert_allclose(change["b"], 0.2 * rate * expected["b"], rtol=1e-5)


def gradients(step: int) -> dict[str, jax.Array]:
    """Of sizes that differ by rows and columns, so that their squares are of rank one, and small enough not to clip."""
    rng = np.random.default_rng(step)
    return {
        name: jnp.asarray(1e-4 * np.linspace(0.5, 2, shape[-1]) * rng.standard_normal(shape), jnp.float32)
        for name, shape in SHAPES.items()
    }


def bytes_of(tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("state", "bytes_each"), [("float32", 8), ("bfloat16", 4), ("factored", 2)])
def test_memory_of_the_state(state, bytes_each):
    optimizer = make_optimizer(1.0, 0.01, RATES, PACKING, state)
    parameters = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    count = sum(x.size for x in parameters.values())
    # Counters, and of factored moments a row and a column and the whole of vectors.
    assert bytes_each * count <= bytes_of(optimizer.init(parameters)) < bytes_each * count + 6000


def test_bfloat16_moments_follow_float32_ones():
    """Over 300 steps and a change of the gradients' size, which rounding to the nearest would never notice."""
    exact, rounded = (make_optimizer(1e9, 0.0, RATES, PACKING, state) for state in ("float32", "bfloat16"))
    parameters = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    states = [exact.init(parameters), rounded.init(parameters)]

    @jax.jit
    def update(step, gradient, states):
        options = {"learning_rate": 1.0, "finite": True, "key": jax.random.fold_in(jax.random.key(0), step)}
        pairs = zip((exact, rounded), states, strict=True)
        return tuple(zip(*(each.update(gradient, state, parameters, **options) for each, state in pairs), strict=True))

    for step in range(300):
        scale = 10.0 if step < 50 else 1.0
        changes, states = update(step, optax.tree.scale(scale, gradients(step)), states)
    for name in SHAPES:
        ours, theirs = np.asarray(changes[1][name]), np.asarray(changes[0][name])
        # One moment's error is up to 1/256 of it, of a sum over hundreds of steps.
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.05 * np.sqrt(np.mean(theirs**2))
        # On average it is right.
        assert abs(np.mean(np.abs(ours)) / np.mean(np.abs(theirs)) - 1) < 0.01


def test_factored_moments_give_steps_of_adams_size():
    adam, factored = (make_optimizer(1e9, 0.0, RATES, PACKING, state) for state in ("float32", "factored"))
    parameters = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    states = [adam.init(parameters), factored.init(parameters)]
    for step in range(20):
        changes = []
        for number, optimizer in enumerate((adam, factored)):
            options = {"learning_rate": 1.0, "finite": True, "key": None}
            change, states[number] = optimizer.update(gradients(step), states[number], parameters, **options)
            changes.append(change)
    for name in SHAPES:
        ratio = float(jnp.sqrt(jnp.mean(changes[1][name] ** 2) / jnp.mean(changes[0][name] ** 2)))
        assert 0.7 < ratio < 1.4
        assert np.corrcoef(np.ravel(changes[0][name]), np.ravel(changes[1][name]))[0, 1] > 0.95


# The first call compiles.
@settings(deadline=None)
@given(st.floats(-(2.0**100), 2.0**100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30))
def test_rounding_at_random_is_right_on_average(x):
    """Over all 2^16 bits: the mean is the number, and nothing is further than the next number of bfloat16."""
    bits = jnp.arange(2**16, dtype=jnp.uint32)
    rounded = np.asarray(round_at_random(jnp.full(2**16, x, jnp.float32), bits)).astype(np.float64)
    np.testing.assert_allclose(rounded.mean(), np.float32(x), rtol=1e-6, atol=1e-44)
    assert np.abs(rounded - np.float32(x)).max() <= abs(x) / 128


def test_the_moving_average():
    trained = [{"a": jnp.array([float(n)])} for n in range(5)]
    mean = trained[0]
    for step, parameters in enumerate(trained[1:]):
        mean = moving_average(mean, parameters, ema_decay_at(0.5, step))
    # Decays 1/10, 2/11, 3/12, 4/13 of the warm-up, all below 0.5.
    expected = 0.0
    for number, decay in zip((1, 2, 3, 4), (1 / 10, 2 / 11, 3 / 12, 4 / 13), strict=True):
        expected = decay * expected + (1 - decay) * number
    np.testing.assert_allclose(mean["a"], [expected], rtol=1e-6)
    assert ema_decay_at(0.999, 10**6) == 0.999
