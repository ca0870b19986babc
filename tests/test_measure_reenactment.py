"""What tools/measure_reenactment.py takes for the truth."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from factories import make_capture, make_face_track

from svp_jax.capture.face_track import write_face_track

FRAMES = [2, 3, 4]


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).resolve().parents[1] / "tools" / "measure_reenactment.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def driven(tool, driver, rate: str = "25") -> dict:
    return tool._driven({"driver": str(driver), "frames": FRAMES, "frame_rate": rate})


def test_a_script_is_sampled_at_the_rendered_frames(tool, tmp_path):
    script = tmp_path / "move.csv"
    script.write_text("time,channel,value\n0,jawOpen,0\n1,jawOpen,0.2\n2,jawOpen,0.4\n3,jawOpen,1\n0,yaw,3\n")
    found = driven(tool, script, "2/2")
    assert found.keys() == {"jawOpen"}
    np.testing.assert_allclose(found["jawOpen"], [0.4, 1, 1])


def test_a_file_of_parameters(tool, tmp_path):
    track = make_face_track(6)
    write_face_track(tmp_path / "face.npz", track)
    found = driven(tool, tmp_path / "face.npz")
    assert found.keys() == {"jawOpen", "blink"}
    np.testing.assert_array_equal(found["jawOpen"], track.parameters.expression[FRAMES, 0])


def test_a_capture_has_the_trackers_scores(tool, tmp_path):
    rng = np.random.default_rng(0)
    scores, names = rng.random((6, 3), np.float32), ["eyeBlinkRight", "jawOpen", "eyeBlinkLeft"]
    capture = make_capture(tmp_path / "capture", 6, tracking={"blendshapes": scores, "blendshape_names": names})
    found = driven(tool, capture)
    np.testing.assert_array_equal(found["jawOpen"], scores[FRAMES, 1])
    np.testing.assert_allclose(found["blink"], scores[FRAMES][:, [0, 2]].mean(axis=1))
