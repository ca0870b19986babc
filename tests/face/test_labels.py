import numpy as np
import pytest

from svp_jax.face.labels import FACE_LABELS, LABEL_INDEX, LABELS, PALETTE, colorize, decode, face_mask, feature_mask


def test_decode_inverts_colorize():
    labels = np.random.default_rng(0).integers(0, len(LABELS), (2, 5, 7))
    assert (decode(colorize(labels)) == labels).all()
    assert decode(colorize(labels)).dtype == np.uint8


def test_colours_are_far_apart():
    colors = PALETTE.astype(int)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distance[~np.eye(len(LABELS), dtype=bool)].min() > 75


def test_decode_stands_noise():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, len(LABELS), (64, 64))
    # At most 36 away in all channels together: under half of the smallest distance.
    noisy = np.clip(colorize(labels).astype(int) + rng.integers(-20, 21, (64, 64, 3)), 0, 255).astype(np.uint8)
    assert (decode(noisy) == labels).all()


@pytest.mark.parametrize("name", LABELS)
def test_face_mask_holds_the_face_and_nothing_else(name):
    assert face_mask(np.array([LABEL_INDEX[name]]))[0] == (name in FACE_LABELS)


@pytest.mark.parametrize("name", LABELS)
def test_feature_mask_holds_eyes_brows_and_mouth(name):
    parts = ("brow", "eye", "iris", "lip", "mouth")
    assert feature_mask(np.array([LABEL_INDEX[name]]))[0] == any(part in name for part in parts)


def test_decode_takes_the_nearest_of_the_allowed_labels():
    colors = np.random.default_rng(2).integers(0, 256, (500, 3), dtype=np.uint8)
    allowed = ("background", "hair", "iris")
    numbers = [LABEL_INDEX[name] for name in allowed]
    distance = np.linalg.norm(colors[:, None].astype(int) - PALETTE[numbers].astype(int), axis=-1)
    expected = np.array(numbers)[distance.argmin(axis=1)]
    assert set(expected) == set(numbers)
    assert (decode(colors, allowed) == expected).all()
