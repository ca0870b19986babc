"""Whether videos move as the reference does, by optical flow."""

from svp_jax.metrics.flow import motion_between, optical_flow
from svp_jax.metrics.meters.meter import FrameMeter, Moment, either
from svp_jax.metrics.temporal import tof, warping_error

MOTION = ("tof", "warping_error")


class MotionMeter(FrameMeter):
    """tOF and warping error of each region. Arguments as of `PictureMeter`."""

    def __init__(self, count: int, rows: int, regions: list[str]):
        super().__init__(count, rows, regions, MOTION)

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        if before is None:
            return
        motion = motion_between(before.reference, now.reference)
        for row, image in enumerate(now.images):
            flow = optical_flow(before.images[row], image)
            for region, mask in now.masks.items():
                self.put(
                    row,
                    region,
                    now.number,
                    tof=tof(flow, motion.forward, either(now, before, region)),
                    warping_error=warping_error(before.images[row], image, motion, mask),
                )
