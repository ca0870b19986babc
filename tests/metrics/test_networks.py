"""LPIPS and FID's Inception beside PyTorch, through real files; weights that are absent, others, or damaged."""

import sys
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_metric_networks as reference
from safetensors.torch import save_file
from torch.nn import functional as F

from svp_jax.errors import UserError
from svp_jax.manifest import sha256_file
from svp_jax.metrics.networks import inception, layers, open_inception, open_lpips
from svp_jax.metrics.networks.backbones import AlexNet
from svp_jax.model_files import look_up_model, registry

torch = reference.torch
FILES = {
    "alex": ("lpips/alexnet-owt-7be5be79.pth", "lpips/alex.pth"),
    "vgg": ("lpips/vgg16-397923af.pth", "lpips/vgg.pth"),
}
INCEPTION = "pt_inception-2015-12-05-6726825d.pth"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty folder of model files; no other is looked into."""
    monkeypatch.setenv("SVP_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "lpips").mkdir()
    return tmp_path


def write_lpips(folder, net: str, linear: dict):
    """Random weights of a backbone as published (in PyTorch's old format), and linear ones; returns the backbone."""
    backbone = reference.BACKBONES[net](0)
    path, path_linear = (folder / name for name in FILES[net])
    torch.save(backbone.state_dict(), path, _use_new_zipfile_serialization=False)
    torch.save(linear, path_linear)
    return backbone


def published_linear(net: str) -> dict:
    """The `lpips` package's own, which is not imported: it needs torchvision."""
    try:
        package = metadata.distribution("lpips")
    except metadata.PackageNotFoundError:
        pytest.skip("the published linear weights come with `pip install --no-deps lpips`")
    return torch.load(package.locate_file(f"lpips/weights/v0.1/{net}.pth"), map_location="cpu", weights_only=True)


def pictures(shape: tuple, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("linear", [reference.linear_weights, published_linear], ids=["random", "published"])
@pytest.mark.parametrize(("net", "size"), [("alex", (70, 83)), ("vgg", (37, 50))])
def test_lpips_is_pytorchs(models, net, size, linear):
    weights = linear(net, 1) if linear is reference.linear_weights else linear(net)
    backbone = write_lpips(models, net, weights)
    images, references = pictures((2, 2, *size, 3))
    ours = open_lpips(net)
    got = ours(images, references)
    assert got.shape == (2,) and got.dtype == np.float32 and got.min() > 0
    np.testing.assert_allclose(got, reference.lpips(net, backbone, weights, images, references), rtol=1e-5)
    np.testing.assert_allclose(ours(references, images), got, rtol=1e-6)
    np.testing.assert_array_equal(ours(images, images), 0)
    assert ours.sha256 == {name.split("/")[1]: sha256_file(models / name) for name in FILES[net]}


def test_floats_are_the_same_pictures_and_a_shape_is_compiled_once(models, monkeypatch):
    write_lpips(models, "alex", reference.linear_weights("alex", 1))
    traced, network = [], AlexNet.__call__
    monkeypatch.setattr(AlexNet, "__call__", lambda self, x: traced.append(x.shape) or network(self, x))
    ours = open_lpips("alex")
    images, references = pictures((2, 3, 31, 64, 3))
    got = ours(images, references)
    np.testing.assert_array_equal(ours(references[::-1], images[::-1]), got[::-1])
    np.testing.assert_array_equal(open_lpips("alex")(images, references), got)
    np.testing.assert_array_equal(ours.distance(ours.features(images), ours.features(references)), got)
    assert traced == [(3, 31, 64, 3)]
    np.testing.assert_allclose(ours(images / np.float32(255), references / np.float64(255)), got, rtol=1e-5)


@pytest.mark.parametrize(("net", "smallest"), [("alex", 31), ("vgg", 16)])
def test_smallest_pictures(models, net, smallest):
    weights = reference.linear_weights(net, 1)
    backbone = write_lpips(models, net, weights)
    ours = open_lpips(net)
    assert ours.smallest == smallest
    images, references = pictures((2, 1, smallest, smallest, 3))
    want = reference.lpips(net, backbone, weights, images, references)
    np.testing.assert_allclose(ours(images, references), want, rtol=1e-5)
    with pytest.raises(UserError, match=rf"{smallest} x {smallest} pixels or more, these are {smallest - 1} x 40"):
        ours(images := pictures((1, 40, smallest - 1, 3)), images)
    # PyTorch cannot compute that either, or not all of its layers.
    with pytest.raises(RuntimeError):
        reference.lpips(net, backbone, weights, images, images)


def test_what_is_no_batch_of_pictures(models):
    write_lpips(models, "alex", reference.linear_weights("alex", 1))
    ours = open_lpips("alex")
    images = pictures((2, 40, 40, 3))
    for bad in (images[0], images[..., :1], images.astype(np.int32), images > 3):
        with pytest.raises(ValueError, match=r"images are .*, allowed: uint8 or float \[N, H, W, 3\]"):
            ours(bad, bad)
    with pytest.raises(ValueError, match="must have one shape"):
        ours(images, images[:1])
    with pytest.raises(ValueError, match="allowed: alex, vgg"):
        open_lpips("squeeze")


def test_inception_is_pytorch_fids(models):
    network = reference.inception(0)
    torch.save(network.state_dict(), models / INCEPTION)
    ours = open_inception()
    images = pictures((2, 330, 200, 3))  # shrinks along one axis, grows along the other
    got, want = ours.features(images), reference.inception_features(network, images)
    assert got.shape == (2, 2048) and got.dtype == np.float32 and want.std() > 0.1
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert ours.sha256 == {INCEPTION: sha256_file(models / INCEPTION)}
    for bad in (images / 255, images[0], images[..., :2], images[:, :0]):
        with pytest.raises(ValueError, match=r"allowed: uint8 \[N, H, W, 3\]"):
            ours.features(bad)


def published(*names: str) -> list[dict]:
    """The published weights, where a user has them."""
    paths = [look_up_model(name) for name in names]
    if None in paths:
        pytest.skip(f"the published weights are not here: svp assets --fetch {' '.join(names)}")
    return [torch.load(path, map_location="cpu", weights_only=True) for path in paths]


@pytest.mark.parametrize("net", FILES)
def test_lpips_of_the_published_weights_is_pytorchs(net):
    weights, linear = published(*FILES[net])
    backbone = reference.BACKBONES[net](0)
    # Without the classifier, at which LPIPS never looks.
    features = {name.removeprefix("features."): each for name, each in weights.items() if name.startswith("features.")}
    backbone["features"].load_state_dict(features)
    images, references = pictures((2, 2, 70, 83, 3))
    want = reference.lpips(net, backbone, linear, images, references)
    np.testing.assert_allclose(open_lpips(net)(images, references), want, atol=1e-4)


def test_features_of_the_published_inception_are_pytorch_fids():
    (weights,) = published(INCEPTION)
    network = reference.inception(0)
    network.load_state_dict(weights)
    images = pictures((2, 330, 200, 3))
    want = reference.inception_features(network, images)
    np.testing.assert_allclose(open_inception().features(images), want, atol=1e-4)


@pytest.mark.parametrize("size", [(299, 299), (64, 48), (512, 1000), (1, 2), (300, 298)])
def test_resizing_is_pytorchs(size):
    x = np.random.default_rng(0).random((1, *size, 2), np.float32)
    want = F.interpolate(torch.from_numpy(x).permute(0, 3, 1, 2), size=(299, 299), mode="bilinear", align_corners=False)
    # PyTorch finds the places in float32: they are off by up to 1000 * 2^-24 pixels.
    np.testing.assert_allclose(layers.resize_bilinear(x, 299), want.permute(0, 2, 3, 1), atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (3, 3)])
def test_poolings_are_pytorchs(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32) - 3  # padded zeros would win
    nchw = torch.from_numpy(x).permute(0, 3, 1, 2)
    pairs = [
        (layers.average_pool_3x3(x), reference.average(nchw)),
        (layers.max_pool(x, 3, 1, padding=1), reference.maximum(nchw)),
        (layers.max_pool(x, 3, 2), reference.halving(nchw)),
        (layers.max_pool(x, 2, 2), F.max_pool2d(nchw, 2, 2)),
    ]
    for got, want in pairs:
        np.testing.assert_allclose(got, want.permute(0, 2, 3, 1), rtol=1e-5)


def test_products_are_in_full_float32_whatever_the_default():
    def run(x):
        return inception.BlockC(768, 128)(layers.resize_bilinear(x, 17))

    with jax.default_matmul_precision("bfloat16"):
        program = str(jax.make_jaxpr(run)(jnp.zeros((1, 9, 9, 768))))
    assert program.count("conv_general_dilated[") == 10 and program.count("dot_general[") == 2
    assert program.count("Precision.HIGHEST") >= 12 and "DEFAULT" not in program and "BF16" not in program


def test_safetensors_need_no_torch(models, monkeypatch):
    backbone = write_lpips(models, "alex", weights := reference.linear_weights("alex", 1))
    images, references = pictures((2, 1, 40, 40, 3))
    want = open_lpips("alex")(images, references)
    for name, tensors in zip(FILES["alex"], (backbone.state_dict(), weights), strict=True):
        save_file(tensors, (models / name).with_suffix(".safetensors"))
        (models / name).unlink()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "torch", None)
        ours = open_lpips("alex")
    np.testing.assert_array_equal(ours(images, references), want)
    assert list(ours.sha256) == ["alexnet-owt-7be5be79.safetensors", "alex.safetensors"]


def test_pickles_need_torch(models, monkeypatch):
    write_lpips(models, "alex", reference.linear_weights("alex", 1))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth .* needs torch to read: pip install torch"):
        open_lpips("alex")


def test_absent_weights_and_the_command_that_fetches_them(models):
    with pytest.raises(UserError) as both:
        open_lpips("vgg")
    assert f"`svp assets --fetch {' '.join(FILES['vgg'])}` downloads that" in str(both.value)
    assert str(models) in str(both.value) and "\n" not in str(both.value)
    torch.save(reference.linear_weights("vgg", 1), models / FILES["vgg"][1])
    with pytest.raises(UserError, match=r"LPIPS \(vgg\) needs lpips/vgg16-397923af\.pth, not found"):
        open_lpips("vgg")
    with pytest.raises(UserError, match=rf"FID's and KID's Inception needs {INCEPTION}, .*--fetch {INCEPTION}`"):
        open_inception()
    # What the messages say can be done.
    assert all(registry()[name].sha256 for name in (*FILES["alex"], *FILES["vgg"], INCEPTION))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("lin3.model.1.weight"), r"missing lin3\.model\.1\.weight; remove it and run `svp assets"),
        (lambda w: w.update(other=torch.ones(1)), "unknown other;"),
        (
            lambda w: w.update({"lin0.model.1.weight": torch.ones(1, 192, 1, 1)}),
            r"misshapen lin0\.model\.1\.weight \(\[1, 192, 1, 1\], not \[1, 64, 1, 1\]\);",
        ),
        (
            lambda w: w.update({"lin0.model.1.weight": torch.ones(1, 64, 1, 1, dtype=torch.int32)}),
            r"not floating point lin0\.model\.1\.weight \(int32\);",
        ),
        (lambda w: w.update({"lin0.model.1.weight": torch.full((1, 64, 1, 1), torch.nan)}), "not finite"),
    ],
)
def test_linear_weights_that_are_others(models, change, message):
    write_lpips(models, "alex", weights := reference.linear_weights("alex", 1))
    change(weights)
    torch.save(weights, models / FILES["alex"][1])
    with pytest.raises(UserError, match=rf"alex\.pth.*{message}"):
        open_lpips("alex")


def test_another_networks_file_is_refused_in_one_short_line(models):
    write_lpips(models, "alex", reference.linear_weights("alex", 1))
    (models / FILES["alex"][0]).rename(models / INCEPTION)
    with pytest.raises(UserError) as refused:
        open_inception()
    message = str(refused.value)
    assert message.startswith(f"{models / INCEPTION} does not hold the weights of FID's and KID's Inception: unknown ")
    assert "features.0.weight, features.0.bias, features.3.weight and 11 more; missing " in message
    assert "\n" not in message and len(message) < 600


def test_torchvisions_own_inception_is_refused(models):
    # The same names and shapes, but for its auxiliary classifier.
    state = reference.inception(0).state_dict() | {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1)}
    torch.save(state, models / INCEPTION)
    with pytest.raises(UserError, match=r"unknown AuxLogits\.conv0\.conv\.weight;"):
        open_inception()
