"""Meters: what the loop over frames gives is what each metric gives by itself."""

import re

import numpy as np
import pytest

from svp_jax import cli
from svp_jax.errors import UserError
from svp_jax.metrics import distribution, flicker, l1, ms_ssim, mse, psnr, smoothness, ssim, tof, warping_error
from svp_jax.metrics.flow import motion_between, optical_flow
from svp_jax.metrics.measured import GROUPS
from svp_jax.metrics.meters.distribution import FEATURES, DistributionMeter
from svp_jax.metrics.meters.motion import MotionMeter
from svp_jax.metrics.meters.perceptual import PerceptualMeter
from svp_jax.metrics.meters.pictures import PictureMeter
from svp_jax.metrics.meters.scales import ScalesMeter
from svp_jax.metrics.score import joined, means, score

RNG = np.random.default_rng(0)
COUNT, SIDE = 4, 48
REFERENCE, *ROWS = RNG.integers(0, 256, (3, COUNT, SIDE, SIDE, 3), np.uint8)
FACE = RNG.random((COUNT, SIDE, SIDE)) < 0.4
# A cut before the third.
FOLLOWS = [False, True, False, True]
MASKS = [{"full": None, "face": mask} for mask in FACE]


def measured(*meters, rows=ROWS, reference=REFERENCE, masks=MASKS):
    score(rows, reference, masks, FOLLOWS, meters)
    return [joined(parts) for parts in zip(*(meter.per_frame() for meter in meters), strict=True)]


def test_pictures_and_motion():
    regions = ["full", "face"]
    found = measured(PictureMeter(COUNT, 2, regions, SIDE, SIDE), MotionMeter(COUNT, 2, regions))
    for row, pictures in enumerate(ROWS):
        for region in regions:
            values = found[row][region]
            for number in range(COUNT):
                mask = None if region == "full" else FACE[number]
                pair = pictures[number], REFERENCE[number], mask
                expected = {"mse": mse(*pair), "psnr": psnr(*pair), "l1": l1(*pair), "ssim": ssim(*pair)}
                assert {name: values[name][number] for name in expected} == expected
                moving = ("smoothness", "flicker", "flicker_reference", "tof", "warping_error")
                if not FOLLOWS[number]:
                    assert all(np.isnan(values[name][number]) for name in moving)
                    continue
                two = slice(number - 1, number + 1)
                both = None if mask is None else FACE[number] | FACE[number - 1]
                motion = motion_between(*REFERENCE[two])
                expected = {
                    "smoothness": smoothness(pictures[two], REFERENCE[two], None if mask is None else FACE[two])[0],
                    "flicker": flicker(*pictures[two], both),
                    "flicker_reference": flicker(*REFERENCE[two], both),
                    "tof": tof(optical_flow(*pictures[two]), motion.forward, both),
                    "warping_error": warping_error(*pictures[two], motion, mask),
                }
                assert {name: values[name][number] for name in moving} == expected


def test_scales():
    reference, pictures = RNG.integers(0, 256, (2, COUNT, 161, 161, 3), np.uint8)
    (found,) = measured(ScalesMeter(COUNT, 1, 161, 161), rows=[pictures], reference=reference)
    expected = [ms_ssim(*pair) for pair in zip(pictures, reference, strict=True)]
    np.testing.assert_array_equal(found["full"]["ms_ssim"], expected)


class Distance:
    """Stands for LPIPS: features are mean colours, the distance is that of the colours."""

    net, smallest = "alex", 8

    def __init__(self):
        self.sha256 = {"file": "0"}

    def features(self, images):
        return [images.mean(axis=(1, 2))]

    def distance(self, features, others):
        return np.abs(features[0] - others[0]).sum(axis=1)


def test_perceptual():
    found = measured(PerceptualMeter(COUNT, 2, SIDE, SIDE, Distance()))
    colours, own = [pictures.mean(axis=(1, 2)) for pictures in ROWS], REFERENCE.mean(axis=(1, 2))
    for row in range(2):
        values = found[row]["full"]
        np.testing.assert_allclose(values["lpips_alex"], np.abs(colours[row] - own).sum(axis=1), rtol=1e-12)
        change, own_change = (np.abs(np.diff(each, axis=0)).sum(axis=1) for each in (colours[row], own))
        expected = [np.nan, abs(change[0] - own_change[0]), np.nan, abs(change[2] - own_change[2])]
        np.testing.assert_allclose(values["tlpips_alex"], expected, rtol=1e-12)


class Features:
    """Stands for Inception: random projections of the picture."""

    def __init__(self):
        self.sha256 = {"file": "1"}
        self.matrix = RNG.standard_normal((SIDE * SIDE * 3, FEATURES)).astype(np.float32) / 100

    def features(self, images):
        return (images.reshape(len(images), -1) / np.float32(255)) @ self.matrix


def test_distribution(tmp_path):
    inception = Features()
    meter = DistributionMeter(COUNT, 2, inception, tmp_path)
    measured(meter)
    own = inception.features(REFERENCE)
    for pictures, totals in zip(ROWS, meter.totals(), strict=True):
        features = inception.features(pictures)
        # In other batches the products round otherwise.
        assert totals["fid"] == pytest.approx(distribution.fid(features, own), rel=1e-5)
        assert totals["kid"] == pytest.approx(distribution.kid(features, own).mean, rel=1e-5)
    assert meter.networks == {"inception": {"file": "1"}}


def test_pictures_that_are_too_small():
    with pytest.raises(UserError, match="the pictures are 6 x 64, SSIM needs 7 x 7 or more"):
        PictureMeter(COUNT, 1, ["full"], 64, 6)
    with pytest.raises(UserError, match="the pictures are 7 x 64, LPIPS"):
        PerceptualMeter(COUNT, 1, 64, 7, Distance())
    with pytest.raises(UserError, match="the pictures are 160 x 161, its five scales need 161 x 161 or more"):
        ScalesMeter(COUNT, 1, 161, 160)
    with pytest.raises(UserError, match="only one is scored"):
        DistributionMeter(1, 1, None, None)


def test_the_help_names_all_groups():
    text = re.sub(r" \([^)]*\)", "", " ".join(cli.evaluate.__doc__.split()))
    names = text.partition("what is measured, some of ")[2].partition(";")[0]
    assert set(re.split(", | and ", names)) == GROUPS.keys()


def test_as_many_frames_of_each():
    with pytest.raises(ValueError, match="zip"):
        measured(PictureMeter(COUNT, 2, ["full", "face"], SIDE, SIDE), rows=[ROWS[0], ROWS[1][:2]])


def test_a_mask_that_is_empty_gives_no_numbers():
    masks = [{"full": None, "face": np.zeros((SIDE, SIDE), bool)}] * COUNT
    (found,) = measured(PictureMeter(COUNT, 1, ["full", "face"], SIDE, SIDE), rows=ROWS[:1], masks=masks)
    averages = means(found)
    assert np.isnan(averages["face"]["mse"]) and np.isnan(averages["face"]["smoothness"])
    assert averages["full"]["mse"] > 0
