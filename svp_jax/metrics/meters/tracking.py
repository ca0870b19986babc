"""Whether each picture shows the face that the reference shows, by one tracker and one parser that look at both."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from svp_jax.metrics.control import (
    Tracked,
    expression_distance,
    landmark_distance,
    parsing_agreement,
    pose_distance,
)
from svp_jax.metrics.meters.meter import FrameMeter, Moment
from svp_jax.metrics.temporal import landmark_jitter

PARSING = ("parsing_agreement",)
PER_FRAME = (
    "landmark_distance",
    "expression_distance",
    "pose_distance",
    "landmark_jitter",
    "landmark_jitter_reference",
)
TRACKING = (*PER_FRAME, "faces_missing")


class TrackingMeter(FrameMeter):
    """Distances of landmarks, expression and pose, jitter, lost faces and agreement of parsing maps, of whole pictures.

    Args:
        count: frames.
        trackers: one for the reference and one for each row, as each follows one video: (picture uint8 [H, W, 3],
            number of the frame) -> what it sees.
        parse: (picture, landmarks [478, 3]) -> labels uint8 [H, W], None without a face; or None: no parser.
        networks: as of `Meter`.
    """

    def __init__(
        self,
        count: int,
        trackers: Sequence[Callable[[np.ndarray, int], Tracked]],
        parse: Callable[[np.ndarray, np.ndarray], np.ndarray | None] | None,
        networks: dict[str, dict[str, str]],
    ):
        super().__init__(count, len(trackers) - 1, ("full",), (*PER_FRAME, *(PARSING if parse else ())))
        self.trackers, self.parse, self.networks = trackers, parse, networks
        self.missing = [0] * (len(trackers) - 1)
        # A second difference needs three frames.
        self.landmarks: list[deque] = [deque(maxlen=3) for _ in trackers]

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        pictures = [now.reference, *now.images]
        reference, *rows = (track(picture, now.number) for track, picture in zip(self.trackers, pictures, strict=True))
        if before is None:
            for kept in self.landmarks:
                kept.clear()
        for kept, seen in zip(self.landmarks, (reference, *rows), strict=True):
            kept.append(seen.landmarks)
        # NaN where no three frames follow each other.
        own, *jitters = (landmark_jitter(np.stack(kept), np.arange(len(kept)) > 0) for kept in self.landmarks)
        for row, seen in enumerate(rows):
            # Scores leave them out: who loses the face looks better than he is.
            self.missing[row] += int(reference.found and not seen.found)
            self.put(
                row,
                "full",
                now.number,
                landmark_distance=landmark_distance(seen.landmarks, reference.landmarks),
                expression_distance=expression_distance(seen.blendshapes, reference.blendshapes),
                pose_distance=pose_distance(seen.rotation, reference.rotation),
                landmark_jitter=jitters[row],
                landmark_jitter_reference=own,
            )
        if self.parse is None or not reference.found:
            return
        expected = self.parse(now.reference, reference.landmarks)
        for row, (image, seen) in enumerate(zip(now.images, rows, strict=True)):
            labels = self.parse(image, seen.landmarks)
            # Without a face in the picture nothing agrees.
            agreement = 0.0 if labels is None else parsing_agreement(labels, expected)
            self.put(row, "full", now.number, parsing_agreement=agreement)

    def totals(self) -> list[dict[str, float]]:
        """The number of lost faces."""
        return [{"faces_missing": missing} for missing in self.missing]
