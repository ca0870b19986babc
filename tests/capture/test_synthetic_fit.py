"""Expressions whose truth is known: a face model made of some frames of the synthetic head, fitted to the others."""

import numpy as np
import pytest

from svp_jax.capture.refit import capture_camera
from svp_jax.capture.synthetic.capture import write_synthetic_capture
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.mediapipe import build_mediapipe
from svp_jax.face.morphable.multi_pie import COUNT
from svp_jax.face.morphable.tracked import fit_tracking, landmark_embedding

# The head's channels as the model has them, in 0 .. 1: what goes both ways has a channel for each.
CHANNELS = {
    "jawOpen": ("jaw_open", 1),
    "mouthSmile": ("smile", 1),
    "mouthFrown": ("smile", -1),
    "mouthPucker": ("pucker", 1),
    "browUp": ("brow_raise", 1),
    "browDown": ("brow_raise", -1),
    "eyeBlinkRight": ("blink_right", 1),
    "eyeBlinkLeft": ("blink_left", 1),
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_synthetic_capture(tmp_path_factory.mktemp("synthetic") / "capture", 3, 8.0, frame_rate=12, size=64)


@pytest.fixture(scope="module")
def truth(capture) -> dict[str, np.ndarray]:
    tracking = capture.tracking()
    return dict(zip(tracking["blendshape_names"].tolist(), tracking["blendshapes"].T, strict=True))


@pytest.fixture(scope="module")
def held_out(capture):
    return np.arange(1, capture.frame_count, 2)


@pytest.fixture(scope="module")
def fitted(capture, truth, held_out):
    """The parameters of every second frame from its landmarks alone; the model is made of the others."""
    scores = np.stack([np.maximum(sign * truth[name], 0) for name, sign in CHANNELS.values()], axis=1)
    model = build_mediapipe(capture.landmarks[held_out - 1], scores[held_out - 1], tuple(CHANNELS))
    nothing, shot = np.zeros((len(held_out), 0), np.float32), np.zeros(len(held_out), np.int32)
    embedding = landmark_embedding(model, COUNT, None)
    return fit_tracking(model, embedding, capture.landmarks[held_out], nothing, (), shot, capture_camera(capture))


def test_expressions_are_right_to_a_twentieth(truth, held_out, fitted):
    errors = {}
    for name in sorted({name for name, _ in CHANNELS.values()}):
        # Landmarks tell the difference of two channels that undo each other, as the head's own channel has it.
        parts = [(index, sign) for index, (of, sign) in enumerate(CHANNELS.values()) if of == name]
        found = sum(sign * np.asarray(fitted.expression)[:, index] for index, sign in parts)
        errors[name] = np.abs(found - truth[name][held_out]).mean()
    assert np.mean(list(errors.values())) < 0.05 and max(errors.values()) < 0.06, errors


def test_the_pose_is_right_to_a_degree(capture, held_out, fitted):
    expected = capture.tracking()["pose"][held_out, :3, :3]
    turned = np.asarray(rotation.matrix(fitted.rotation), np.float64)
    # The model's head at rest looks elsewhere than the capture's, by one constant turn.
    left, _, right = np.linalg.svd(np.einsum("nji,njk->ik", expected, turned))
    off = rotation.vector((expected @ (left @ right)).swapaxes(1, 2) @ turned)
    assert np.degrees(np.linalg.norm(off, axis=-1)).mean() < 1
