"""How close each picture is to the reference's at several scales."""

from svp_jax.errors import UserError
from svp_jax.metrics.image import MS_SSIM_SIDE, ms_ssim
from svp_jax.metrics.meters.meter import Moment, Regions, Values

SCALES = ("ms_ssim",)


class ScalesMeter:
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
        self.networks: dict[str, dict[str, str]] = {}
        self.values = Values(count, rows, ("full",), SCALES)

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        for row, image in enumerate(now.images):
            self.values.put(row, "full", now.number, ms_ssim=ms_ssim(image, now.reference))

    def per_frame(self) -> list[Regions]:
        """As of `Meter`."""
        return self.values.rows

    def totals(self) -> list[dict[str, float]]:
        """None."""
        return [{} for _ in self.values.rows]
