"""One video as segments side by side: how long each is warmed up, which frames it shows, and that they look alike."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
import segments_run
from factories import SCHEDULER, make_capture
from hypothesis import given, settings
from hypothesis import strategies as st

from svp_jax.capture.images import read_pngs
from svp_jax.diffusion import Schedule, TemporalWeights, sample_sequence
from svp_jax.errors import UserError
from svp_jax.manifest import read_manifest
from svp_jax.rendering.plan import Plan
from svp_jax.rendering.segments import APART, seam_differences, split, warm_up_frames
from svp_jax.rendering.sequences import Track

LONGEST, STEPS = 64, 6
SCHEDULE = Schedule.from_config(SCHEDULER, STEPS)
taus = st.integers(0, STEPS - 1).map(lambda step: step / (STEPS - 1))


@jax.jit
def what_is_left(temporal):
    """Of a latent of 1 in each of the frames behind it, by a network that finds no noise and so changes nothing."""
    nothing, shape = jnp.zeros((LONGEST, 1, 1, 1, 1)), (1, 1, 1, 1)

    def predict(latent, timestep, condition):
        return jnp.zeros(shape)

    return sample_sequence(predict, SCHEDULE, nothing, nothing, temporal, jnp.ones(shape))[0].ravel()


@given(
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.tuples(taus, taus).map(sorted),
    st.sampled_from([1e-4, 0.01, 0.3]),
)
@settings(deadline=None)
def test_the_warm_up_is_the_shortest_that_leaves_less_than_the_tolerance(current, previous, tau, tolerance):
    temporal = TemporalWeights(current, previous, 1.0, *tau)
    # By the last step a latent is a little smaller than the picture that it stands for.
    kept = float(SCHEDULE.signal_prev[-1]) ** np.arange(LONGEST + 1)
    left = APART * np.array([1, *what_is_left(temporal)]) / kept
    try:
        frames = warm_up_frames(temporal, STEPS, tolerance)
    except UserError:
        assert left[-1] > 0.999 * APART
        return
    # Rounding, of up to 64 frames.
    if frames <= LONGEST:
        assert left[frames] < 1.001 * tolerance
    assert left[min(frames - 1, LONGEST)] > 0.999 * tolerance


def test_warm_ups_worked_out_by_hand():
    # A hundredth of ten after three frames, of which each leaves a tenth of the one before.
    assert warm_up_frames(TemporalWeights(0.5, 0.1, 1, 0.5), 30, 0.0101) == 3
    assert warm_up_frames(TemporalWeights(0.5, -0.1, 1, 0.5), 30, 0.0101) == 3
    # Three steps, of 0.1 (1 + 0.5 + 0.25).
    assert warm_up_frames(TemporalWeights(0.5, 0.1, 1, 0.0, 2 / 9), 10, 0.0101) == 4
    # Nothing of the frame before.
    assert warm_up_frames(TemporalWeights.plain(), 30, 0.01) == 0
    assert warm_up_frames(TemporalWeights(0.9, 0.0, 0.8, 0.5), 30, 0.01) == 0


@pytest.mark.parametrize("weights", [(0.0, 1.0, 1, 0.5), (0.5, -1.2, 1, 0.5), (0.8, 0.4, 1, 0.0, 1.0)])
def test_what_never_fades_is_refused(weights):
    message = (
        r"--segments: of each frame \d\.\d\d goes over into the next, .*; lower --previous, or leave --segments out"
    )
    with pytest.raises(UserError, match=message):
        warm_up_frames(TemporalWeights(*weights), 10, 0.01)


def plan(total, shots=(), first=100):
    return Plan(range(first, first + total), first + np.arange(total), np.isin(np.arange(total), [0, *shots]))


@pytest.mark.filterwarnings("ignore:--segments")
@given(st.data(), st.integers(1, 60), st.integers(1, 9), st.integers(0, 20))
def test_every_frame_is_shown_once_and_a_warm_up_stays_within_its_shot(data, total, count, warm_up):
    shots = data.draw(st.sets(st.integers(1, max(total - 1, 1)), max_size=4))
    whole = plan(total, shots)
    tracks = split(None, whole, count, warm_up)
    assert 1 <= len(tracks) <= count
    np.testing.assert_array_equal(np.concatenate([track.indices[track.warm_up :] for track in tracks]), whole.indices)
    for track in tracks:
        here = slice(track.first, track.first + len(track.indices))
        np.testing.assert_array_equal(track.indices, whole.indices[here])
        assert track.starts[0] and track.shown_from == 100
        np.testing.assert_array_equal(track.starts[1:], whole.starts[here][1:])
        # No longer than asked for, and shorter where a shot starts alone.
        assert track.warm_up == warm_up or (track.warm_up < warm_up and whole.starts[track.first])
        assert not track.starts[1 : track.warm_up + 1].any()


@pytest.mark.filterwarnings("ignore:--segments")
@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 20))
def test_segments_have_equal_work(total, count, warm_up):
    lengths = [len(track.indices) for track in split(None, plan(total), count, warm_up)]
    # The last one has what is left; where there are fewer than asked for, so had those.
    assert len(set(lengths[:-1])) <= 1 and lengths[-1] <= lengths[0]
    if total > count * (warm_up + 1):
        assert lengths[0] == -(-(total + (count - 1) * warm_up) // count)


def test_fewer_segments_than_asked_for_are_named():
    with pytest.warns(UserWarning, match=r"--segments 9: 12 frames make 4, with up to 8 frames of warm-up"):
        assert len(split(None, plan(12), 9, 8)) == 4


def test_seams_by_hand():
    tracks = split(None, plan(30, shots=(20,)), 3, 4)
    assert [(track.first, track.warm_up, len(track.indices)) for track in tracks] == [
        (0, 0, 13),
        (9, 4, 13),
        (20, 2, 10),
    ]
    last = np.array([[0.0, 2.0], [5.0, 7.0], [0.0, 0.0]])
    warmed_up = np.array([[9.0, 9.0], [0.5, 2.0], [5.0, 10.0]])
    # The deviation of two numbers is half of their distance.
    assert seam_differences(tracks, last, warmed_up) == [
        {"frame": 113, "warm_up": 4, "difference": 0.5},
        {"frame": 122, "warm_up": 2, "difference": 3.0},
    ]
    assert seam_differences([tracks[0], Track(None, np.arange(3), np.ones(3, bool))], last, warmed_up) == [
        {"frame": 0, "warm_up": 0, "difference": 0.0}
    ]


@pytest.fixture(scope="module")
def found(avatar_folder, tmp_path_factory):
    """What the program tells, its latents, and the folder of its renders."""
    folder = tmp_path_factory.mktemp("segments")
    driver = make_capture(folder / "driver", segments_run.FRAMES, cuts=(segments_run.CUT,))
    with programs.killed_at_the_end() as start:
        ((line, _),) = programs.finish(start(segments_run, avatar_folder, driver, folder, devices=4))
    return json.loads(line), np.load(folder / "latents.npz"), folder


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_five_segments_on_four_devices_look_like_one_sequence(found, stage, record_property):
    _, latents, folder = found
    whole, segments = latents[f"whole.{stage}"], latents[f"segments.{stage}"]
    differences = np.abs(segments - whole).max(axis=(1, 2, 3)) / whole.std(axis=(1, 2, 3))
    record_property("difference", float(differences.max()))
    assert differences.max() < segments_run.TOLERANCE
    # The first segment has the same before it; rounding, of rows on devices of their own.
    assert differences[: segments_run.BEGINNINGS[0]].max() < 1e-5
    # Frames differ by more than that, or any would do.
    assert np.abs(np.diff(whole, axis=0)).max(axis=(1, 2, 3)).min() > 10 * segments_run.TOLERANCE * whole.std()

    name = {"outlines": "parsing", "details": "frames"}[stage]
    ours, theirs = (read_pngs(folder / out / name, range(segments_run.FRAMES)) for out in ("segments", "whole"))
    if stage == "outlines":
        # A pixel between two labels may go either way.
        assert (ours == theirs).mean() > 0.999
    else:
        assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_seams_are_reported_as_they_are(found):
    said, _, folder = found
    manifest = read_manifest(folder / "segments", "render")
    for stage in ("outlines", "details"):
        seams = manifest["seams"][stage]
        np.testing.assert_allclose([seam["difference"] for seam in seams], said["seams"][stage], rtol=1e-6)
        assert [seam["frame"] for seam in seams] == list(segments_run.BEGINNINGS)
        # Three tenths of each frame go over into the next, in two stages; the last warm-up starts at the cut.
        alone = warm_up_frames(TemporalWeights(0.7, 0.3, 1, 0.5), segments_run.STEPS, segments_run.TOLERANCE)
        at_the_cut = segments_run.BEGINNINGS[-1] - segments_run.CUT
        stages = 2
        assert [seam["warm_up"] for seam in seams] == [stages * alone] * 3 + [at_the_cut]
        assert max(seam["difference"] for seam in seams) < segments_run.TOLERANCE
    assert read_manifest(folder / "whole", "render")["seams"] == {}
    assert read_manifest(folder / "whole", "render")["frames"] == manifest["frames"]


def test_sequences_together_on_four_devices_give_what_each_gives_alone_on_one(found, record_property):
    _, latents, _ = found
    differences = {}
    for row, length in enumerate(segments_run.LENGTHS):
        together = latents[f"together.{row}"]
        assert len(together) == length
        if length:
            alone = latents[f"alone.{row}"]
            differences[row] = float(np.abs(together - alone).max() / alone.std())
    record_property("differences", differences)
    # Rounding: of two rows at once and of one.
    assert max(differences.values()) < 1e-5
    assert np.abs(latents["alone.0"] - latents["alone.3"]).max() > 0.1


def test_one_compilation_for_both_stages_all_chunks_and_all_sequences(found):
    said, _, _ = found
    # The five sequences run what the five segments ran, and each alone what the whole video did.
    assert said["traces"] == {"whole": 1, "segments": 1, "together": 0, "alone": 0}
