"""How close each picture is to the reference's at several scales."""

from svp_jax.errors import UserError
from svp_jax.metrics.image import MS_SSIM_SIDE, ms_ssim
from svp_jax.metrics.meters.meter import FrameMeter, Moment

SCALES = ("ms_ssim",)


class ScalesMeter(FrameMeter):
    """MS-SSIM of whole pictures.

    Args:
        count: frames. rows: of pictures. height, width: of the pictures.

    Raises:
        UserError: they are too small for five scales.
    """

    def __init__(self, count: int, rows: int, height: int, width: int):
        if min(height, width) < MS_SSIM_SIDE:
            raise UserError(
                f"the pictures are {width} x {height}, its five scales need {MS_SSIM_SIDE} x {MS_SSIM_SIDE} or more"
            )
        super().__init__(count, rows, ("full",), SCALES)

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        for row, image in enumerate(now.images):
            self.put(row, "full", now.number, ms_ssim=ms_ssim(image, now.reference))
