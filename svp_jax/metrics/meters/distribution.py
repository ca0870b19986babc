"""How alike the videos' frames and the reference's are as sets: FID and KID."""

from pathlib import Path

import numpy as np

from svp_jax.errors import UserError
from svp_jax.metrics.distribution import frechet_distance, kid, moments
from svp_jax.metrics.meters.meter import Moment, Regions
from svp_jax.metrics.networks.inception import FEATURES, Inception

DISTRIBUTION = ("fid", "kid", "kid_error")
_BATCH = 256


class DistributionMeter:
    """FID and KID of whole pictures. Features lie in files, 8 kB for each picture, so that memory does not grow.

    Args:
        count: frames. rows: of pictures.
        folder: where the features are written; who gives it removes it.

    Raises:
        UserError: there is one frame only.
    """

    def __init__(self, count: int, rows: int, inception: Inception, folder: Path):
        if count < 2:
            raise UserError("it compares sets of frames, and only one is scored; give two or more")
        self.inception, self.networks = inception, {"inception": inception.sha256}
        self.features = [
            np.memmap(folder / f"features_{row}", np.float32, "w+", shape=(count, FEATURES)) for row in range(rows + 1)
        ]

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        found = self.inception.features(np.stack([now.reference, *now.images]))
        for kept, features in zip(self.features, found, strict=True):
            kept[now.number] = features

    def per_frame(self) -> list[Regions]:
        """None."""
        return [{} for _ in self.features[1:]]

    def totals(self) -> list[dict[str, float]]:
        """FID, KID and KID's standard error."""
        reference, *rows = self.features
        own = _moments(reference)
        found = []
        for features in rows:
            kernel = kid(features, reference)
            distance = frechet_distance(_moments(features), own)
            found.append({"fid": distance, "kid": kernel.mean, "kid_error": kernel.error})
        return found


def _moments(features: np.ndarray):
    return moments(features[start : start + _BATCH] for start in range(0, len(features), _BATCH))
