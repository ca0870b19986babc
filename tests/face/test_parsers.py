import numpy as np
import pytest
import yaml

from svp_jax.capture.video import open_video
from svp_jax.errors import UserError
from svp_jax.face.parsers import (
    COARSE,
    SHIPPED,
    activate,
    coarse_scores,
    open_parser,
    read_description,
    resize_maps,
)
from svp_jax.model_files import look_up_model


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
        ({"treshold": 0.4}, r"parser\.yaml: unknown key treshold; did you mean threshold\?"),
        ({"licence": "MIT"}, "unknown key licence; known: model, input, activation, threshold, classes"),
        (
            {"input": {"width": 512, "height": 512, "chanels": "bgr"}},
            r"parser\.yaml: unknown key input\.chanels; did you mean input\.channels\?",
        ),
        ({"input": {"width": 512, "height": 512, 7: 1}}, r"unknown key input\.7; known: width, height, channels"),
        ({"input": [512, 512]}, r"input must hold `key: value` lines, found \[512, 512\]"),
    ],
)
def test_wrong_descriptions_are_named(models, tmp_path, changes, message):
    with pytest.raises(UserError, match=message), open_parser(described(tmp_path, **changes)) as (_, parser, _):
        parser(np.zeros((64, 64, 3), np.uint8), 64)


def protobuf(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A message of (field number, content), which is how an ONNX file is written."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([128 | value & 127]) + varint(value >> 7)

    message = b""
    for number, content in fields:
        if isinstance(content, int):
            message += varint(number << 3) + varint(content)
        else:
            content = content.encode() if isinstance(content, str) else content
            message += varint(number << 3 | 2) + varint(len(content)) + content
    return message


def write_network(path, operator: str, output_type: int, **attributes: int) -> None:
    """An ONNX network of one operator on float32 [1, 3, 4, 4]; `output_type` 1 is float32, 7 is int64."""
    sizes = protobuf(*((1, protobuf((1, size))) for size in (1, 3, 4, 4)))
    source = protobuf((1, "x"), (2, protobuf((1, protobuf((1, 1), (2, sizes))))))
    target = protobuf((1, "y"), (2, protobuf((1, protobuf((1, output_type))))))
    # Type 2 of an attribute is a whole number.
    settings = [(5, protobuf((1, name), (3, value), (20, 2))) for name, value in attributes.items()]
    node = protobuf((1, "x"), (2, "y"), (4, operator), *settings)
    graph = protobuf((1, node), (2, "graph"), (11, source), (12, target))
    path.write_bytes(protobuf((1, 8), (7, graph), (8, protobuf((1, ""), (2, 13)))))


SMALL = {"model": "small.onnx", "input": {"width": 4, "height": 4}}


@pytest.mark.parametrize(
    "attributes, classes, found",
    [
        ({"axis": 1, "keepdims": 0}, ["skin", "clothes", "hair"], r"int64 \[1, 4, 4\]"),
        # One class would fit the number of channels.
        ({"axis": 1, "keepdims": 1}, ["skin"], r"int64 \[1, 1, 4, 4\]"),
    ],
)
def test_a_map_of_labels_is_refused(tmp_path, attributes, classes, found):
    write_network(tmp_path / "small.onnx", "ArgMax", 7, **attributes)
    needed = r"needed are float scores \[1, classes, height, width\]"
    message = rf"parser\.yaml: small\.onnx gives {found}, {needed}$"
    description = described(tmp_path, **SMALL, classes=classes)
    with open_parser(description) as (_, parser, _), pytest.raises(UserError, match=message):
        parser(np.zeros((8, 8, 3), np.uint8), 8)


def test_scores_without_a_batch_are_refused(tmp_path):
    write_network(tmp_path / "small.onnx", "Flatten", 1, axis=2)
    message = r"small\.onnx gives float32 \[3, 16\], needed are float scores"
    with open_parser(described(tmp_path, **SMALL)) as (_, parser, _), pytest.raises(UserError, match=message):
        parser(np.zeros((8, 8, 3), np.uint8), 8)


def test_any_network_of_scores_is_taken(tmp_path):
    write_network(tmp_path / "small.onnx", "Identity", 1)
    image = np.full((8, 8, 3), (51, 102, 204), np.uint8)
    with open_parser(described(tmp_path, **SMALL, threshold=0.5)) as (_, parser, _):
        scores = parser(image, 8)
    # The colours themselves are the scores: clothes, the second class, has green's.
    assert scores.shape == (8, 8, len(COARSE))
    for name, score in (("background", 0.5), ("skin", 0.2), ("clothes", 0.4), ("hair", 0.8)):
        np.testing.assert_allclose(scores[..., COARSE.index(name)], score, rtol=1e-6)


def test_other_files_are_refused(models, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "network.tflite").write_bytes(b"no network")
    (tmp_path / "nothing.onnx").write_bytes(b"no network")
    cases = {
        str(broken): "not a readable YAML",
        str(tmp_path / "empty.yaml"): "the file must hold `key: value` lines, found None",
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
