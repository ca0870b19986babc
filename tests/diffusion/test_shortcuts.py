"""Frames that begin from the one before, and features that several steps share: against plain loops in NumPy."""

from functools import partial

import jax
import numpy as np
import pytest
from toy_sampling import (
    SD,
    by_features,
    inputs,
    one_by_one,
    predict_with_features,
    sample,
    sample_with_reuse,
)

from svp_jax.diffusion import Carry, Reuse, Schedule, TemporalWeights, sample_sequence

STEPS, FRAMES = 8, 6
SHAPE = (1, 4, 4, 3)
MIXED = TemporalWeights(0.7, 0.4, 0.9, 0.6)  # From step 4 on.
PLAIN = TemporalWeights.plain()
V = {**SD, "prediction_type": "v_prediction"}
STARTS = np.isin(np.arange(FRAMES), [2])


@pytest.mark.parametrize("config", [SD, V], ids=["epsilon", "v"])
@pytest.mark.parametrize(
    "previous", [None, np.random.default_rng(1).normal(size=SHAPE).astype("f")], ids=["none", "one"]
)
def test_frames_that_look_back_begin_at_the_noised_frame_before(previous, config):
    schedule = Schedule.from_config(config, STEPS)
    noise, conditions = inputs(FRAMES, shape=SHAPE)
    # Before, at and after the steps that mix.
    for temporal in (PLAIN, MIXED, TemporalWeights(0.7, 0.4, 0.9, 0.0, 0.5)):
        for begin in (1, 4, 7):
            latents, _ = sample(schedule, noise, conditions, temporal, previous, STARTS, begin=np.int32(begin))
            expected = one_by_one(schedule, noise, conditions, temporal, before=previous, starts=[2], begin=begin)
            # Rounding; the loops are in float64.
            np.testing.assert_allclose(latents, expected, rtol=0, atol=1e-5 * expected.std())


def test_begin_of_zero_is_none():
    schedule = Schedule.from_config(SD, STEPS)
    noise, conditions = inputs(FRAMES, shape=SHAPE)
    for temporal in (PLAIN, MIXED):
        usual, _ = sample(schedule, noise, conditions, temporal, shot_starts=STARTS)
        latents, _ = sample(schedule, noise, conditions, temporal, shot_starts=STARTS, begin=0)
        # Another program, so only nearly the same rounding.
        np.testing.assert_allclose(latents, usual, rtol=0, atol=1e-6 * np.std(usual))


def test_one_program_for_every_begin_and_every_reuse():
    traces = []

    @jax.jit
    def render(begin, anew):
        traces.append(1)
        return sample_sequence(
            predict_with_features,
            schedule,
            noise,
            conditions,
            MIXED,
            begin=begin,
            reuse=Reuse(by_features, anew),
        )[0]

    schedule = Schedule.from_config(SD, STEPS)
    noise, conditions = inputs(FRAMES, shape=SHAPE)
    settings = ((0, 1), (3, 1), (0, 2), (3, 2), (5, 3))
    results = [render(begin, np.arange(STEPS) % every == 0) for begin, every in settings]
    assert len(traces) == 1
    assert len({np.asarray(result).tobytes() for result in results}) == len(results)


@pytest.mark.parametrize("begin", [None, 3])
def test_features_of_every_step_are_no_reuse(begin):
    schedule = Schedule.from_config(SD, STEPS)
    noise, conditions = inputs(FRAMES, shape=SHAPE)

    @partial(jax.jit, static_argnames="batch")
    def without(batch):
        def predict(latent, timestep, condition):
            return predict_with_features(latent, timestep, condition)[0]

        return sample_sequence(predict, schedule, noise, conditions, MIXED, begin=begin, batch=batch)[0]

    for batch in (1, 3):
        usual = without(batch)
        latents, _ = sample_with_reuse(schedule, noise, conditions, MIXED, every=1, begin=begin, batch=batch)
        # Rounding: here each output passes a branch.
        np.testing.assert_allclose(latents, usual, rtol=0, atol=1e-6 * np.std(usual))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("temporal", "every", "begin"), [(MIXED, 2, 0), (MIXED, 3, 0), (PLAIN, 3, 0), (MIXED, 2, 5)])
def test_features_are_computed_at_every_so_many_steps_and_taken_again_between(temporal, every, begin, batch):
    """In both phases, each of which computes its own first: the features of the other one are of another frame."""
    schedule = Schedule.from_config(SD, STEPS)
    noise, conditions = inputs(FRAMES, shape=SHAPE)
    # To be known by.
    conditions[:, 0, 0, 0, 0] = np.arange(FRAMES)
    seen = []

    def spied(function, again):
        def called(latent, timestep, condition, *features):
            def see(frame, timestep):
                seen.append((int(frame), schedule.timesteps.tolist().index(int(timestep)), again))

            jax.debug.callback(see, condition[0, 0, 0, 0], timestep)
            return function(latent, timestep, condition, *features)

        return called

    @jax.jit
    def render():
        reuse = Reuse(spied(by_features, True), np.arange(STEPS) % every == 0)
        predict = spied(predict_with_features, False)
        carry = Carry.empty(SHAPE)
        return sample_sequence(
            predict, schedule, noise, conditions, temporal, carry, STARTS, begin=begin, reuse=reuse, batch=batch
        )[0]

    latents = jax.block_until_ready(render())
    jax.effects_barrier()
    calls = []
    expected = one_by_one(schedule, noise, conditions, temporal, starts=[2], begin=begin, every=every, calls=calls)
    assert sorted(seen) == calls
    np.testing.assert_allclose(latents, expected, rtol=0, atol=1e-5 * expected.std())
    if temporal is MIXED and every == 3 and batch == 1:
        # Step 4 is the first that mixes.
        assert [step for frame, step, again in calls if frame == 1 and not again] == [0, 3, 4, 6]
