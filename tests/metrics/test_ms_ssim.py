"""MS-SSIM against its definition written out, and its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from svp_jax.metrics import ms_ssim

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def written_out(image, reference):
    """Wang, Simoncelli and Bovik (2003), channel by channel, with full two-dimensional convolutions."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    scores = []
    for channel in range(image.shape[2]):
        x, y = image[..., channel], reference[..., channel]
        product = 1.0
        for scale, weight in enumerate(WEIGHTS):

            def mean(values):
                return convolve2d(values, window, mode="valid")

            mx, my = mean(x), mean(y)
            cs = (2 * (mean(x * y) - mx * my) + 0.03**2) / (mean(x * x) - mx**2 + mean(y * y) - my**2 + 0.03**2)
            if scale == 4:
                cs = cs * (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
            product *= max(cs.mean(), 0) ** weight
            # The mean of each pixel with its neighbours to the right and below, of every second pixel.
            x, y = (
                convolve2d(np.pad(v, ((0, 1), (0, 1)), mode="symmetric"), np.full((2, 2), 0.25), mode="valid")[::2, ::2]
                for v in (x, y)
            )
        scores.append(product)
    return np.mean(scores)


def pictures(height, width, noise, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 9.0
    reference = np.stack([np.sin(x + y), np.cos(x * y / 30), np.sin(x / 3)], axis=-1) * 0.4 + 0.5
    return np.clip(reference + rng.normal(scale=noise, size=reference.shape), 0, 1), reference


@pytest.mark.parametrize("size", [(161, 161), (176, 192), (203, 165)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_it_is_what_its_definition_says(size, noise):
    image, reference = pictures(*size, noise)
    expected = written_out(image, reference)
    assert 0.05 < expected < 0.999
    assert abs(ms_ssim(image, reference) - expected) < 1e-9
    in_bytes = [np.round(255 * picture).astype(np.uint8) for picture in (image, reference)]
    assert abs(ms_ssim(*in_bytes) - written_out(*(picture / 255 for picture in in_bytes))) < 1e-9


def test_what_is_turned_over_scores_nothing_and_equal_pictures_all():
    # Black and white cells of 16 pixels: at the finer scales each window sees the opposite of what it should.
    cells = (np.indices((176, 176)) // 16).sum(axis=0) % 2
    picture = np.repeat(cells[..., None], 3, axis=2).astype(float)
    assert ms_ssim(1 - picture, picture) == 0
    assert ms_ssim(picture, picture) == 1
    black = np.zeros((161, 161, 3), np.uint8)
    assert ms_ssim(black, black) == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.3))
def test_it_is_symmetric_and_falls_with_more_noise(seed, noise):
    image, reference = pictures(161, 170, noise, seed)
    worse, _ = pictures(161, 170, 2 * noise, seed)
    assert ms_ssim(image, reference) == pytest.approx(ms_ssim(reference, image), abs=1e-12)
    assert 0 <= ms_ssim(worse, reference) < ms_ssim(image, reference) < 1


def test_small_pictures_are_refused():
    image, reference = pictures(160, 200, 0.1)
    with pytest.raises(ValueError, match="160 x 200, allowed: at least 161 x 161"):
        ms_ssim(image, reference)
    with pytest.raises(ValueError, match="one shape"):
        ms_ssim(image, reference[:100])
