"""When control and guidance work, and the finest level of a step by the features of another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from factories import ENCODER, SCHEDULER, UNET, random_model
from hypothesis import assume, given
from hypothesis import strategies as st

from svp_jax.diffusion import Schedule
from svp_jax.models import ControlNet, ControlNetConfig, UNet, UNetConfig
from svp_jax.rendering.steering import Steering, predictor, window

TEN = Schedule.from_config(SCHEDULER, 10)
ALWAYS, NEVER = window(TEN, 0, 1), np.array([-1, 0], np.int32)
ROWS = 2

fractions = st.floats(0, 1)


def steps_inside(schedule, edges):
    noisiest, cleanest = window(schedule, *edges)
    return np.flatnonzero((schedule.timesteps <= noisiest) & (schedule.timesteps >= cleanest)).tolist()


@given(st.integers(1, 120), fractions, fractions, st.sampled_from(["leading", "trailing", "linspace"]))
def test_a_window_holds_the_steps_that_diffusers_keeps(count, start, end, spacing):
    """As its StableDiffusionControlNetPipeline has it: keeps = 1 - float(i / n < start or (i + 1) / n > end)."""
    edges = np.arange(count + 1) / count
    # Within the millionth that rounding may take, a step counts.
    assume(not np.any(((edges < start) & (edges > start - 2e-6)) | ((edges > end) & (edges < end + 2e-6))))
    keeps = [i for i in range(count) if not (i / count < start or (i + 1) / count > end)]
    schedule = Schedule.from_config({**SCHEDULER, "timestep_spacing": spacing}, count)
    assert steps_inside(schedule, (start, end)) == keeps


@given(st.integers(1, 100), st.data())
def test_fractions_that_are_steps_are_exact_whatever_their_rounding(count, data):
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, count))
    schedule = Schedule.from_config(SCHEDULER, count)
    for nudge in (-1e-9, 0, 1e-9):
        inside = steps_inside(schedule, (first / count + nudge, last / count - nudge))
        assert inside == list(range(first, last))


def test_a_window_between_two_edges_holds_nothing():
    assert steps_inside(TEN, (0.31, 0.39)) == [] == steps_inside(TEN, (0.35, 0.45))
    np.testing.assert_array_equal(window(TEN, 0.31, 0.39), NEVER)


class Inputs(NamedTuple):
    """Of one call of the networks."""

    latent: np.ndarray
    hint: np.ndarray
    text: np.ndarray


@pytest.fixture(scope="module")
def networks():
    rng = np.random.default_rng(0)
    config = ControlNetConfig.from_json({**ENCODER, "conditioning_channels": 9})
    return random_model(ControlNet, config, rng), random_model(UNet, UNetConfig.from_json(UNET), rng)


@pytest.fixture(scope="module")
def frames():
    """Of three frames."""
    rng = np.random.default_rng(1)
    shapes = (3, ROWS, 8, 8, 4), (3, ROWS, 8, 8, 8), (3, ROWS, 5, 16)
    return Inputs(*(rng.standard_normal(shape, np.float32) for shape in shapes))


NEGATIVE = np.random.default_rng(2).standard_normal((5, 16), np.float32)


@pytest.fixture(scope="module")
def run(networks):
    """(inputs, timestep, steering, negative, features) -> output, features; by given features where there are any.

    Of several frames at once where the inputs have an axis of them.
    """

    @jax.jit
    def compiled(inputs, timestep, steering, negative, features):
        predict, again = predictor(*networks, steering, negative)

        def one(inputs, features):
            condition = inputs.hint, inputs.text
            if features is None:
                return predict(inputs.latent, timestep, condition)
            return again(inputs.latent, timestep, condition, features), features

        return jax.vmap(one)(inputs, features) if inputs.latent.ndim == 5 else one(inputs, features)

    def called(inputs, timestep, steering, negative=None, features=None):
        return compiled(inputs, jnp.int32(timestep), steering, negative, features)

    return called


def steering(control=ALWAYS, guided=ALWAYS, strength=(1.0, 1.0), guidance=3.0):
    return Steering(np.array(strength, np.float32), control, np.float32(guidance), guided)


def difference(ours, other):
    return np.abs(np.asarray(ours) - np.asarray(other)).max() / np.std(other)


def frame(number, frames):
    return Inputs(*(x[number] for x in frames))


def test_the_condition_has_an_effect_within_the_control_window_alone(run, frames):
    one = frame(0, frames)
    other = one._replace(hint=one.hint[::-1])
    settings = steering(control=window(TEN, 0.3, 0.6))
    without = steering(control=NEVER)
    for step, timestep in enumerate(TEN.timesteps):
        output, _ = run(one, timestep, settings)
        if step in (3, 4, 5):
            assert difference(run(other, timestep, settings)[0], output) > 1e-2
            np.testing.assert_array_equal(output, run(one, timestep, steering())[0])
        else:
            np.testing.assert_array_equal(output, run(other, timestep, settings)[0])
            np.testing.assert_array_equal(output, run(one, timestep, without)[0])


def test_each_sequence_has_its_own_strength(run, frames):
    one, timestep = frame(0, frames), TEN.timesteps[4]
    for negative in (None, NEGATIVE):
        mixed, _ = run(one, timestep, steering(strength=(0.2, 1.5)), negative)
        low, _ = run(one, timestep, steering(strength=(0.2, 0.2)), negative)
        high, _ = run(one, timestep, steering(strength=(1.5, 1.5)), negative)
        np.testing.assert_array_equal(mixed, np.stack([low[0], high[1]]))
        assert difference(low, high) > 1e-2


def test_guidance_works_within_its_window_alone(run, frames):
    one = frame(0, frames)
    led_away = one._replace(text=np.broadcast_to(NEGATIVE, one.text.shape))
    settings = steering(guided=window(TEN, 0.3, 0.6))
    for step, timestep in enumerate(TEN.timesteps):
        guided, features = run(one, timestep, settings, NEGATIVE)
        # Of both halves, so that steps within and outside can use them alike.
        assert all(len(x) == 2 * ROWS for x in features)
        conditional, _ = run(one, timestep, steering())
        if step in (3, 4, 5):
            unconditional, _ = run(led_away, timestep, steering())
            expected = unconditional + 3.0 * (conditional - unconditional)
            assert difference(expected, conditional) > 1e-2
        else:
            expected = conditional
        # Rounding: of twice the rows in one batch, and here times three.
        assert difference(guided, expected) < 1e-5


@pytest.mark.parametrize("negative", [None, NEGATIVE], ids=["unguided", "guided"])
def test_by_features_of_the_same_step_the_output_is_the_same(run, frames, negative):
    one = frame(0, frames)
    settings = steering(control=window(TEN, 0, 0.5), guided=window(TEN, 0.3, 1), strength=(0.4, 1.0))
    for step in (1, 4, 8):  # Controlled, both, guided.
        output, features = run(one, TEN.timesteps[step], settings, negative)
        by_features, _ = run(one, TEN.timesteps[step], settings, negative, features)
        # Rounding, as the finest level is compiled with others around it; guidance makes three times as much of it.
        assert difference(by_features, output) < 1e-5
        _, others = run(one, TEN.timesteps[step - 1], settings, negative)
        assert difference(run(one, TEN.timesteps[step], settings, negative, others)[0], output) > 1e-4


def test_outside_the_guidance_window_the_features_are_those_of_the_text(run, frames):
    """Of a guided step before, there are those of the negative text too."""
    one, (before, now) = frame(0, frames), TEN.timesteps[2:4]
    settings = steering(guided=window(TEN, 0, 0.3))
    _, of_both = run(one, before, settings, NEGATIVE)
    _, of_text = run(one, before, steering())
    assert difference(of_both[0][:ROWS], of_both[0][ROWS:]) > 1e-2
    found, _ = run(one, now, settings, NEGATIVE, of_both)
    expected, _ = run(one, now, steering(), None, of_text)
    # Rounding, of other batches.
    assert difference(found, expected) < 1e-5


def test_frames_together_by_features_give_what_each_gives_alone(run, frames):
    """Their rows become rows of one batch."""
    settings, (before, now) = steering(strength=(0.4, 1.0)), TEN.timesteps[3:5]
    features = [run(frame(number, frames), before, settings, NEGATIVE)[1] for number in range(3)]
    together, _ = run(frames, now, settings, NEGATIVE, jax.tree.map(lambda *x: np.stack(x), *features))
    for number, own in enumerate(features):
        alone, _ = run(frame(number, frames), now, settings, NEGATIVE, own)
        assert difference(together[number], alone) < 1e-5
    assert difference(together[0], together[1]) > 1e-2
