"""The parser's scores over time, in `prepare`: no model and no video needed."""

import numpy as np

from svp_jax.capture.second_pass import _smoothed_in_time


def test_scores_are_averaged_within_a_shot_and_frames_keep_their_order():
    scores = [np.full((2, 2, 6), value, float) for value in (0, 4, 16, 100, 200, 300)]
    scores[4] = None  # no face
    scored = [(number, f"image {number}", score) for number, score in enumerate(scores)]
    result = list(_smoothed_in_time(iter(scored), np.array([0, 0, 0, 1, -1, 2])))
    assert [(number, image) for number, image, _ in result] == [(n, f"image {n}") for n in range(6)]
    # 1, 2, 1 in the middle of a shot; at its ends, beside a cut and beside a gap as they are.
    assert [None if score is None else score.max() for _, _, score in result] == [0, 6, 16, 100, None, 300]
    assert all(score is None or np.ptp(score) == 0 for _, _, score in result)
