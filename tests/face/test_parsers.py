import numpy as np
import pytest
import yaml

from svp_jax.capture.video import open_video
from svp_jax.errors import UserError
from svp_jax.face.model_files import look_up_model
from svp_jax.face.parsers import (
    COARSE,
    SHIPPED,
    activate,
    coarse_scores,
    open_parser,
    read_description,
    resize_maps,
)


@pytest.fixture
def models(shared, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(shared / "models"))
    return shared / "models"


def described(folder, **changes) -> str:
    content = yaml.safe_load(SHIPPED.read_text())
    path = folder / "parser.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return str(path)


def test_default_is_the_shipped_parser_and_it_sees_the_person(models, shared):
    _, frame = next(open_video(shared / "videos" / "hdtf_a.mp4").frames())
    with open_parser(None) as (name, parser, files):
        scores = parser(frame, 128)
    assert [path.name for path in files] == ["skin_clothes_hair_pan.yaml", "skin_clothes_hair_pan.onnx"]
    assert name == "skin_clothes_hair_pan" and scores.shape == (128, 128, len(COARSE))
    labels = scores.argmax(axis=-1)
    shares = [np.mean(labels == COARSE.index(part)) for part in ("skin", "clothes", "hair")]
    # Measured for the whole clip: skin .41-.42, clothes .00, hair .09-.11.
    assert shares[0] == pytest.approx(0.415, abs=0.03)
    assert shares[1] < 0.02 and shares[2] == pytest.approx(0.10, abs=0.03)


def test_channel_order_matters(models, shared, tmp_path):
    _, frame = next(open_video(shared / "videos" / "hdtf_a.mp4").frames())
    size = {**yaml.safe_load(SHIPPED.read_text())["input"], "channels": "bgr"}
    with open_parser(None) as (_, rgb, _), open_parser(described(tmp_path, input=size)) as (_, bgr, _):
        np.testing.assert_allclose(bgr(frame[..., ::-1], 64), rgb(frame, 64), atol=1e-5)
        assert np.abs(bgr(frame, 64) - rgb(frame, 64)).max() > 0.1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"classes": ["skin", "clothes"]}, "3 classes, 2 are described"),
        ({"classes": ["skin", "shoes", "hair"]}, r"unknown classes \['shoes'\]"),
        ({"activation": "relu"}, "activation is 'relu', allowed are none, sigmoid, softmax"),
        ({"input": {"width": 512}}, "height is missing"),
        ({"model": "nowhere.onnx"}, r"nowhere\.onnx is not in"),
        ({"input": {"width": 100, "height": 100}}, "refuses it"),
        ({"input": {"width": 0, "height": 512}}, "width is 0, allowed are whole numbers from 1"),
        ({"input": {"width": 512, "height": 512, "mean": [0.5]}}, "mean has 1 numbers, 3 are needed"),
        (
            {"input": {"width": 512, "height": 512, "std": [1, 1, 0]}},
            r"std is \[1.0, 1.0, 0.0\], allowed are .*above 0",
        ),
    ],
)
def test_wrong_descriptions_are_named(models, tmp_path, changes, message):
    with pytest.raises(UserError, match=message), open_parser(described(tmp_path, **changes)) as (_, parser, _):
        parser(np.zeros((64, 64, 3), np.uint8), 64)


def test_other_files_are_refused(models, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    (tmp_path / "network.tflite").write_bytes(b"no network")
    (tmp_path / "nothing.onnx").write_bytes(b"no network")
    cases = {
        str(broken): "not a readable YAML",
        str(tmp_path / "network.tflite"): "not a usable segmenter",
        str(tmp_path / "gone.tflite"): "no such model file",
        "parser.pt": "allowed are a .yaml",
        described(tmp_path, model="nothing.onnx"): "cannot be loaded by onnxruntime",
    }
    for choice, message in cases.items():
        with pytest.raises(UserError, match=message), open_parser(choice):
            pass


def test_without_a_model_only_landmarks_are_left(tmp_path, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with open_parser(None) as (name, parser, files):
        assert name == "landmarks" and parser is None and files == ()
    with pytest.raises(UserError, match=r"skin_clothes_hair_pan\.onnx is not in"):
        read_description(SHIPPED)


def test_models_are_looked_for_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("SVP_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert look_up_model("some.task") is None
    (tmp_path / "svp_jax").mkdir()
    (tmp_path / "svp_jax" / "some.task").touch()
    assert look_up_model("some.task") == tmp_path / "svp_jax" / "some.task"


def test_activations():
    maps = np.array([[[2.0, -1.0, 0.5]]], np.float32)
    np.testing.assert_allclose(activate(maps, "sigmoid")[0, 0], 1 / (1 + np.exp([-2, 1, -0.5])), rtol=1e-6)
    np.testing.assert_allclose(
        activate(maps, "softmax")[0, 0], np.exp(maps[0, 0]) / np.exp(maps[0, 0]).sum(), rtol=1e-6
    )
    assert activate(maps, "none") is maps


def test_scores_add_classes_and_use_the_threshold():
    maps = np.array([[[0.3, 0.4, 0.6]]], np.float32)
    scores = coarse_scores(maps, ("skin", "skin", "hair"), 0.5)[0, 0]
    assert scores[COARSE.index("skin")] == pytest.approx(0.7) and scores.argmax() == COARSE.index("skin")
    low = coarse_scores(0.5 * maps, ("skin", "ignore", "hair"), 0.5)[0, 0]
    assert low.argmax() == COARSE.index("background")
    own = coarse_scores(maps, ("background", "skin", "ignore"), 0.5)[0, 0]
    assert own[0] == pytest.approx(0.3) and own.argmax() == COARSE.index("skin")


def test_maps_of_one_class_keep_their_axis():
    assert resize_maps(np.ones((8, 8, 1), np.float32), 4).shape == (4, 4, 1)
