import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.capture.crop import BlackBars, Crop, choose_crop


def faces(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Landmarks [n, 2, 3]: opposite corners of boxes given as left, top, width, height."""
    return np.array([[(x, y, 0), (x + w, y + h, 0)] for x, y, w, h in boxes], float)


def test_small_face_gets_room_for_hair_and_shoulders():
    crop = choose_crop(faces((900, 400, 100, 140)), (0, 0, 1920, 1080), 256)
    assert crop.side == round(140 * (1 + 0.55 + 0.65))
    assert crop.left + crop.side / 2 == 950
    assert 400 - crop.top == round(0.55 * 140)


def test_crop_stays_inside_the_picture_if_it_can():
    crop = choose_crop(faces((10, 20, 100, 140)), (0, 0, 1920, 1080), 256)
    assert (crop.left, crop.top) == (0, 0)
    tight = choose_crop(faces((120, 90, 250, 320)), (0, 0, 512, 485), 256)
    assert tight.side == 485 and tight.top == 0 and 0 <= tight.left <= 27


def test_wide_motion_pads_rather_than_loses_the_face():
    landmarks = faces(*[(x, 100, 120, 160) for x in range(0, 880, 20)])
    crop = choose_crop(landmarks, (0, 0, 1000, 400), 256)
    assert crop.left <= 0 and crop.left + crop.side >= 980 and crop.side > 400


def test_one_bad_frame_does_not_widen_the_crop():
    good = [(500, 300, 100, 140)] * 299
    assert choose_crop(faces(*good, (0, 0, 900, 900)), (0, 0, 1920, 1080), 64) == choose_crop(
        faces(*good), (0, 0, 1920, 1080), 64
    )


@given(st.integers(0, 500), st.integers(0, 300), st.integers(30, 200), st.integers(30, 250), st.integers(0, 2))
def test_face_is_always_inside(x, y, width, height, margin):
    crop = choose_crop(faces((x, y, width, height)), (0, 0, 720, 576), 128, margin)
    points = crop.points(faces((x, y, width, height)))
    assert (points[..., :2] >= -1).all() and (points[..., :2] <= 129).all()


def test_points_and_pixels_agree():
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[140:150, 210:220] = 255
    crop = Crop(100, 50, 256, 128)
    image = crop.image(frame)
    rows, columns = np.nonzero(image[..., 0] > 127)
    middle = crop.points(np.array([215.0, 145.0, 8.0]))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == tuple(middle[:2])
    assert middle[2] == 4


def test_outside_repeats_the_edge():
    frame = np.full((100, 100, 3), 50, np.uint8)
    frame[0] = 200
    image = Crop(-14, -28, 128, 128).image(frame)
    assert image.shape == (128, 128, 3)
    assert (image[:28] == 200).all() and (image[40:, :14] == 50).all() and (image[127] == 50).all()


def test_black_bars_are_found():
    frame = np.zeros((100, 120, 3), np.uint8)
    frame[:73, 10:] = 90
    frame[20:40, 30:40] = 0
    bars = BlackBars(100, 120)
    bars.add(frame)
    assert bars.window() == (10, 0, 120, 73)
    assert BlackBars(100, 120).window() == (0, 0, 120, 100)
