"""MediaPipe's own lines are kept off the standard error, and no others."""

import os
import sys
import threading

import pytest

from svp_jax.face.without_log import without_log

NOISE = b"W0000 00:00:1795399686.858066   32721 face_landmarker_graph.cc:181] Sets FaceBlendshapesGraph acceleration\n"


def test_noise_is_dropped_and_all_else_comes_after(capfd):
    with without_log():
        os.write(2, NOISE + b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nF0000 it failed\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "F0000 it failed\n"
    os.write(2, b"W0000 00:00: later\n")
    assert capfd.readouterr().err == "W0000 00:00: later\n"


def test_what_goes_wrong_goes_on(capfd):
    with pytest.raises(RuntimeError, match="no model"), without_log():
        os.write(2, NOISE + b"E0000 no model\n")
        raise RuntimeError("no model")
    assert capfd.readouterr().err == "E0000 no model\n"


def test_without_a_standard_error(capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with without_log():
        os.write(2, NOISE)
    kept = os.dup(2)
    os.close(2)
    try:
        with without_log():
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert capfd.readouterr().err == ""


def test_in_two_threads(capfd):
    def work():
        for _ in range(50):
            with without_log():
                os.write(2, NOISE)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"
