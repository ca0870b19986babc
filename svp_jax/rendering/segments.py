"""One long sequence as several tracks that run side by side, each warmed up on the frames before it.

A frame takes w_p of its predecessor's latent, which took w_p of its own, and so on: what lay k frames before counts
w_p to the power of k. So a track that starts some frames early, from nothing, soon makes the same as if it had come
from the beginning. The difference that is left is measured where tracks meet, and reported.
"""

import math
import warnings

import numpy as np

from svp_jax.diffusion import TemporalWeights
from svp_jax.errors import UserError
from svp_jax.rendering.driver import Driver
from svp_jax.rendering.plan import Plan
from svp_jax.rendering.sequences import Track

# Standard deviations by which two latents of one face differ at most, of which the warm-up must leave the tolerance.
APART = 10.0


def warm_up_frames(temporal: TemporalWeights, num_steps: int, tolerance: float) -> int:
    """How many frames before its first one a track must start, so that nothing before them matters.

    Over m mixing steps a latent takes over r = w_p (1 + w_c + ... + w_c^(m - 1)) of its predecessor: all that the
    later ones leave of the earlier ones' share, as if the network changed nothing of it. The steps after tau bring the
    latent closer to what the condition says, so that less is left.

    Args:
        tolerance: of the latents, in their standard deviations.

    Raises:
        UserError: it never fades: r is 1 or more.
    """
    first, last = (int(step) for step in temporal.mixed_steps(num_steps))
    if first == num_steps:
        return 0
    current, previous = abs(float(temporal.current)), abs(float(temporal.previous))
    share = previous * sum(current**step for step in range(last - first + 1))
    if share >= 1:
        raise UserError(
            f"--segments: of each frame {share:.2f} goes over into the next, so that what came before never fades; "
            "lower --previous, or leave --segments out"
        )
    return math.ceil(math.log(tolerance / APART) / math.log(share)) if share else 0


def split(driver: Driver, plan: Plan, count: int, warm_up: int) -> list[Track]:
    """`plan` in `count` tracks of about equal length; fewer, with a warning, where it is too short or cut.

    A warm-up ends at the start of a shot: nothing before it matters at all.
    """
    total = len(plan.indices)
    # The first track needs no warm-up, so it shows more.
    length = -(-(total + (count - 1) * warm_up) // count)
    tracks, start = [], 0
    while start < total:
        shot = int(np.flatnonzero(plan.starts[: start + 1])[-1])
        early = max(start - warm_up, shot)
        stop = min(early + max(length, warm_up + 1), total)
        starts = plan.starts[early:stop].copy()
        starts[0] = True
        tracks.append(Track(driver, plan.indices[early:stop], starts, early, start - early, plan.span.start))
        start = stop
    if len(tracks) < count:
        warnings.warn(
            f"--segments {count}: {total} frames make {len(tracks)}, with up to {warm_up} frames of warm-up each",
            stacklevel=3,
        )
    return tracks


def seam_differences(tracks: list[Track], last: np.ndarray, warmed_up: np.ndarray) -> list[dict]:
    """Where tracks meet: the frame and the largest difference of its latent from the one before, in their deviations.

    Args:
        last: latents float32 [tracks, h, w, c] of the tracks' last frames.
        warmed_up: of the last ones that the tracks do not show; the same frames, from the other side.
    """
    seams = []
    for number, track in enumerate(tracks[1:], start=1):
        frame = int(track.indices[track.warm_up])
        gap = np.abs(warmed_up[number] - last[number - 1]).max() / last[number - 1].std() if track.warm_up else 0.0
        seams.append({"frame": frame, "warm_up": track.warm_up, "difference": float(gap)})
    return seams
