"""Several sequences through the sampler at once: each as if it were alone, wherever it starts and ends."""

import jax
import numpy as np
import pytest
from toy_sampling import SD, inputs, network, one_by_one, sample, sample_with_reuse

from svp_jax.diffusion import Carry, Schedule, TemporalWeights, sample_sequence

STEPS = 6
MIXED = TemporalWeights(0.7, 0.4, 0.9, 0.6)
PICTURE = (4, 4, 3)
KEY = jax.random.key(4)
# Sums in another order: the programs differ in how many rows they compute at once.
ROUNDING = 1e-5


def three_sequences(frames):
    """Noise and conditions [frames, 3, ...], where shots start, and what came before: nothing for the middle one."""
    noise, conditions = inputs(frames, shape=(3, *PICTURE))
    starts = np.zeros((frames, 3), bool)
    starts[2, 0] = starts[4, 2] = True
    latent = np.random.default_rng(1).normal(size=(3, *PICTURE)).astype("f")
    return noise, conditions, starts, Carry(latent, np.array([True, False, True]), np.array([5, 0, 2], np.int32))


def of_row(row, carry):
    return jax.tree.map(lambda x: x[row : row + 1], carry)


@pytest.mark.parametrize(
    ("eta", "shortcuts"),
    [(0.7, {}), (0.0, {"begin": 3}), (0.0, {"every": 2}), (0.0, {"begin": 3, "every": 2})],
    ids=str,
)
def test_each_sequence_gives_what_it_gives_alone(eta, shortcuts):
    noise, conditions, starts, carry = three_sequences(6)
    schedule = Schedule.from_config(SD, STEPS, eta)
    render = sample_with_reuse if "every" in shortcuts else sample
    together, after = render(schedule, noise, conditions, MIXED, carry, starts, KEY, batch=4, **shortcuts)
    for row in range(3):
        one = slice(row, row + 1)
        alone, after_it = render(
            schedule,
            noise[:, one],
            conditions[:, one],
            MIXED,
            of_row(row, carry),
            starts[:, one],
            KEY,
            batch=4,
            **shortcuts,
        )
        np.testing.assert_allclose(together[:, one], alone, rtol=0, atol=ROUNDING * np.std(alone))
        by_hand = one_by_one(
            schedule,
            noise[:, one],
            conditions[:, one],
            MIXED,
            before=carry.latent[one] if carry.valid[row] else None,
            starts=np.flatnonzero(starts[:, row]),
            came_before=int(carry.frame[row]),
            key=KEY,
            **shortcuts,
        )
        np.testing.assert_allclose(alone, by_hand, rtol=0, atol=2 * ROUNDING * by_hand.std())
        np.testing.assert_array_equal(after.latent[one], together[-1, one])
        assert after.valid[row] and int(after.frame[row]) == int(after_it.frame[0]) == carry.frame[row] + 6


@pytest.mark.parametrize("shortcuts", [{}, {"begin": 2}], ids=str)
def test_a_sequence_that_has_ended_keeps_its_carry(shortcuts):
    noise, conditions, starts, carry = three_sequences(6)
    counts = [6, 0, 3]
    active = np.arange(6)[:, None] < counts
    schedule = Schedule.from_config(SD, STEPS)
    latents, after = sample(schedule, noise, conditions, MIXED, carry, starts, active=active, **shortcuts)
    whole, _ = sample(schedule, noise, conditions, MIXED, carry, starts, **shortcuts)
    for row, count in enumerate(counts):
        np.testing.assert_allclose(latents[:count, row], whole[:count, row], rtol=0, atol=ROUNDING * np.std(whole))
        np.testing.assert_array_equal(after.latent[row], latents[count - 1, row] if count else carry.latent[row])
        assert bool(after.valid[row]) == (count > 0 or carry.valid[row])
        assert int(after.frame[row]) == carry.frame[row] + count


@pytest.mark.parametrize("begin", [None, 2])
@pytest.mark.parametrize(
    ("frames", "batch", "lengths"),
    [(8, 1, (0, 4, 8)), (8, 2, (0, 4, 8)), (5, 4, (0, 4))],
    ids=["alone", "pairs", "a last batch without any"],
)
def test_frames_that_no_sequence_has_cost_no_call(frames, batch, lengths, begin):
    noise, conditions, starts, carry = three_sequences(frames)
    # To be known by.
    conditions[:, 0, 0, 0, 0] = np.arange(frames)
    seen = []

    def spy(latent, timestep, condition):
        jax.debug.callback(
            lambda frame, timestep: seen.append((int(frame), int(timestep))), condition[0, 0, 0, 0], timestep
        )
        return network(latent, timestep, condition)

    @jax.jit
    def render(active):
        return sample_sequence(
            spy,
            Schedule.from_config(SD, STEPS),
            noise,
            conditions,
            MIXED,
            carry,
            starts,
            active=active,
            begin=begin,
            batch=batch,
        )

    for length in lengths:
        counts = [length, 0, length // 2]
        seen.clear()
        jax.block_until_ready(render(np.arange(frames)[:, None] < counts))
        jax.effects_barrier()
        assert {frame for frame, _ in seen} == set(range(max(counts)))
        # Of no frame is any step made twice.
        assert len(seen) == len(set(seen))
        # Frames of which all sequences look back begin later.
        assert len(seen) == sum(
            STEPS - (begin or 0) * all_look_back(frame, counts, starts, carry) for frame in range(max(counts))
        )
        seen.clear()


def all_look_back(frame, counts, starts, carry):
    there = [row for row in range(3) if frame < counts[row]]
    return all((frame > 0 or carry.valid[row]) and not starts[frame, row] for row in there)


@pytest.mark.parametrize("length", [1, 7, 64])
def test_seventy_frames_in_chunks_of_any_length_equal_plain_loops(length, record_property):
    """As a render does it: the last chunk is filled up with frames that are not there."""
    frames, shape = 70, (2, *PICTURE)
    noise, conditions = inputs(frames, shape=shape)
    starts = np.zeros((frames, 2), bool)
    starts[30, 0] = starts[64, 1] = True
    schedule = Schedule.from_config(SD, STEPS)
    carry, parts = Carry.empty(shape), []
    for first in range(0, frames, length):
        part = slice(first, first + length)
        absent = max(first + length - frames, 0)

        def filled(array, part=part, absent=absent):
            return np.concatenate([array[part], np.zeros((absent, *array.shape[1:]), array.dtype)])

        latents, carry = sample(
            schedule,
            filled(noise),
            filled(conditions),
            MIXED,
            carry,
            filled(starts),
            active=filled(np.ones(frames, bool)),
            batch=4,
        )
        parts.append(latents[: length - absent])
    latents = np.concatenate(parts)
    assert (np.asarray(carry.frame) == frames).all()
    rows = [
        one_by_one(schedule, noise[:, [row]], conditions[:, [row]], MIXED, starts=np.flatnonzero(starts[:, row]))
        for row in range(2)
    ]
    expected = np.concatenate(rows, axis=1)
    record_property("difference", float(np.abs(latents - expected).max() / expected.std()))
    np.testing.assert_allclose(latents, expected, rtol=0, atol=1e-5 * expected.std())
