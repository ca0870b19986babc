"""How close each picture is to the reference's, and how it changes: all that needs no network and no flow."""

from svp_jax.errors import UserError
from svp_jax.metrics.image import MARGIN, WINDOW, absolute_error_map, decibels, masked_mean, squared_error_map, ssim_map
from svp_jax.metrics.meters.meter import FrameMeter, Moment, either
from svp_jax.metrics.temporal import motion_error_map

PICTURES = ("psnr", "ssim", "mse", "l1", "smoothness", "flicker", "flicker_reference")


class PictureMeter(FrameMeter):
    """PSNR, SSIM, MSE, L1, smoothness and flicker of each region.

    Args:
        count: frames. rows: of pictures. regions: that the moments' masks have.
        height, width: of the pictures.

    Raises:
        UserError: they are smaller than SSIM's window.
    """

    def __init__(self, count: int, rows: int, regions: list[str], height: int, width: int):
        if min(height, width) < WINDOW:
            raise UserError(f"the pictures are {width} x {height}, SSIM needs {WINDOW} x {WINDOW} or more")
        super().__init__(count, rows, regions, PICTURES)

    def measure(self, now: Moment, before: Moment | None) -> None:
        """As of `Meter`."""
        own = None if before is None else absolute_error_map(now.reference, before.reference)
        for row, image in enumerate(now.images):
            squares, absolute = squared_error_map(image, now.reference), absolute_error_map(image, now.reference)
            similarity = ssim_map(image, now.reference)
            for region, mask in now.masks.items():
                inner = None if mask is None else mask[MARGIN:-MARGIN, MARGIN:-MARGIN]
                error = masked_mean(squares, mask)
                self.put(
                    row,
                    region,
                    now.number,
                    mse=error,
                    psnr=decibels(error),
                    l1=masked_mean(absolute, mask),
                    ssim=masked_mean(similarity, inner),
                )
            if before is None:
                continue
            change = absolute_error_map(image, before.images[row])
            errors = motion_error_map(before.images[row], image, before.reference, now.reference)
            for region in now.masks:
                mask = either(now, before, region)
                self.put(
                    row,
                    region,
                    now.number,
                    smoothness=masked_mean(errors, mask),
                    flicker=masked_mean(change, mask),
                    flicker_reference=masked_mean(own, mask),
                )
