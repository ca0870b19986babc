"""One real face to draw on."""

import pytest

from svp_jax.capture.video import open_video
from svp_jax.face.tracking import face_tracker


@pytest.fixture(scope="session")
def real_face(shared):
    """(image uint8 [512, 512, 3], landmarks [478, 3]) of a frontal face with open eyes and mouth."""
    with face_tracker(shared / "models" / "face_landmarker.task") as tracker:
        for time, image in open_video(shared / "videos" / "lp_d0.mp4").frames():
            faces = tracker.detect(image, time)
            if time >= 2.0:
                return image, faces[0].landmarks
