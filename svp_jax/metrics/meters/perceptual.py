"""How different pictures look, and how they change, by LPIPS."""

import jax
import numpy as np

from svp_jax.errors import UserError
from svp_jax.metrics.meters.meter import FrameMeter, Moment
from svp_jax.metrics.networks import LPIPS
from svp_jax.metrics.temporal import tlpips


class PerceptualMeter(FrameMeter):
    """LPIPS and tLPIPS of whole pictures. Each picture goes through the network once.

    Args:
        count: frames. rows: of pictures. height, width: of the pictures.

    Raises:
        UserError: the network needs larger pictures.
    """

    def __init__(self, count: int, rows: int, height: int, width: int, lpips: LPIPS):
        if min(height, width) < lpips.smallest:
            raise UserError(
                f"the pictures are {width} x {height}, LPIPS ({lpips.net}) needs {lpips.smallest} x {lpips.smallest}"
            )
        super().__init__(count, rows, ("full",), perceptual(lpips.net))
        self.lpips, self.networks = lpips, {f"lpips_{lpips.net}": lpips.sha256}
        self.before = None

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        distance, motion = perceptual(self.lpips.net)
        features = self.lpips.features(np.stack([now.reference, *now.images]))
        reference = jax.tree.map(lambda x: x[:1].repeat(len(x), 0), features)
        for row, value in enumerate(self.lpips.distance(features, reference)[1:]):
            self.put(row, "full", now.number, **{distance: float(value)})
        if before is not None:
            own, *changes = self.lpips.distance(self.before, features)
            for row, value in enumerate(tlpips(np.array(changes), own)):
                self.put(row, "full", now.number, **{motion: float(value)})
        self.before = features


def perceptual(net: str) -> tuple[str, str]:
    """The names of LPIPS and tLPIPS with a network."""
    return f"lpips_{net}", f"tlpips_{net}"
