"""The networks of LPIPS and FID in PyTorch, with the published files' names of parameters."""

import pytest

torch = pytest.importorskip("torch", reason="parity is tested against PyTorch; install the [dev] extra")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

torch.set_grad_enabled(False)

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def alexnet(seed: int) -> nn.Module:
    """`features` and `classifier` with torchvision's positions; the classifier is narrow, LPIPS never looks at it."""
    torch.manual_seed(seed)
    relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    layers = [nn.Conv2d(3, 64, 11, stride=4, padding=2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu()]
    layers += [pool(), nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu()]
    layers += [nn.Conv2d(256, 256, 3, padding=1), relu(), pool()]
    classifier = nn.Sequential(nn.Dropout(), nn.Linear(9, 8), relu(), nn.Dropout(), nn.Linear(8, 8), relu())
    return nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": classifier})


def vgg16(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers, channels = [], 3
    for width in VGG16:
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": nn.Sequential(nn.Linear(9, 8))})


# Positions in `features` of the ReLUs whose outputs LPIPS compares, and their channels.
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
BACKBONES = {"alex": alexnet, "vgg": vgg16}


def linear_weights(net: str, seed: int) -> dict:
    """As the published file has them: positive, one for each channel."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"lin{layer}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for layer, channels in enumerate(CHANNELS[net])
    }


def lpips(net: str, backbone: nn.Module, linear: dict, images, references):
    """LPIPS v0.1 [N] of uint8 [N, H, W, 3]."""

    def maps(pictures):
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).view(2, 1, 3, 1, 1)
        x = (x - shift) / scale
        for position, layer in enumerate(backbone["features"][: TAPS[net][-1] + 1]):
            x = layer(x)
            if position in TAPS[net]:
                yield x / ((x**2).sum(dim=1, keepdim=True).sqrt() + 1e-10)

    total = 0
    for layer, (a, b) in enumerate(zip(maps(images), maps(references), strict=True)):
        total = total + F.conv2d((a - b) ** 2, linear[f"lin{layer}.model.1.weight"]).mean(dim=(1, 2, 3))
    return total.numpy()


class ConvNorm(nn.Module):
    def __init__(self, channels_in, channels_out, size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches that are joined; each is a row of layer names, or of poolings without parameters."""

    def __init__(self, layers: dict, branches: list):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.branches = branches

    def forward(self, x):
        joined = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = step(y) if callable(step) else getattr(self, step)(y)
            joined.append(y)
        return torch.cat(joined, dim=1)


def average(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum(x):
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halving(x):
    return F.max_pool2d(x, 3, stride=2)


def _a(channels, pool):
    layers = {
        "branch1x1": ConvNorm(channels, 64, 1),
        "branch5x5_1": ConvNorm(channels, 48, 1),
        "branch5x5_2": ConvNorm(48, 64, 5, padding=2),
        "branch3x3dbl_1": ConvNorm(channels, 64, 1),
        "branch3x3dbl_2": ConvNorm(64, 96, 3, padding=1),
        "branch3x3dbl_3": ConvNorm(96, 96, 3, padding=1),
        "branch_pool": ConvNorm(channels, pool, 1),
    }
    double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Mixed(layers, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], double, [average, "branch_pool"]])


def _b(channels):
    layers = {
        "branch3x3": ConvNorm(channels, 384, 3, stride=2),
        "branch3x3dbl_1": ConvNorm(channels, 64, 1),
        "branch3x3dbl_2": ConvNorm(64, 96, 3, padding=1),
        "branch3x3dbl_3": ConvNorm(96, 96, 3, stride=2),
    }
    return Mixed(layers, [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], [halving]])


def _c(inner):
    wide, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    layers = {
        "branch1x1": ConvNorm(768, 192, 1),
        "branch7x7_1": ConvNorm(768, inner, 1),
        "branch7x7_2": ConvNorm(inner, inner, *wide),
        "branch7x7_3": ConvNorm(inner, 192, *tall),
        "branch7x7dbl_1": ConvNorm(768, inner, 1),
        "branch7x7dbl_2": ConvNorm(inner, inner, *tall),
        "branch7x7dbl_3": ConvNorm(inner, inner, *wide),
        "branch7x7dbl_4": ConvNorm(inner, inner, *tall),
        "branch7x7dbl_5": ConvNorm(inner, 192, *wide),
        "branch_pool": ConvNorm(768, 192, 1),
    }
    single = [f"branch7x7_{number}" for number in (1, 2, 3)]
    double = [f"branch7x7dbl_{number}" for number in (1, 2, 3, 4, 5)]
    return Mixed(layers, [["branch1x1"], single, double, [average, "branch_pool"]])


def _d():
    layers = {
        "branch3x3_1": ConvNorm(768, 192, 1),
        "branch3x3_2": ConvNorm(192, 320, 3, stride=2),
        "branch7x7x3_1": ConvNorm(768, 192, 1),
        "branch7x7x3_2": ConvNorm(192, 192, (1, 7), 1, (0, 3)),
        "branch7x7x3_3": ConvNorm(192, 192, (7, 1), 1, (3, 0)),
        "branch7x7x3_4": ConvNorm(192, 192, 3, stride=2),
    }
    long = [f"branch7x7x3_{number}" for number in (1, 2, 3, 4)]
    return Mixed(layers, [["branch3x3_1", "branch3x3_2"], long, [halving]])


def _e(channels, pool):
    wide, tall = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    layers = {
        "branch1x1": ConvNorm(channels, 320, 1),
        "branch3x3_1": ConvNorm(channels, 384, 1),
        "branch3x3_2a": ConvNorm(384, 384, *wide),
        "branch3x3_2b": ConvNorm(384, 384, *tall),
        "branch3x3dbl_1": ConvNorm(channels, 448, 1),
        "branch3x3dbl_2": ConvNorm(448, 384, 3, padding=1),
        "branch3x3dbl_3a": ConvNorm(384, 384, *wide),
        "branch3x3dbl_3b": ConvNorm(384, 384, *tall),
        "branch_pool": ConvNorm(channels, 192, 1),
    }
    single = [["branch3x3_1", "branch3x3_2a"], ["branch3x3_1", "branch3x3_2b"]]
    double = [["branch3x3dbl_1", "branch3x3dbl_2", f"branch3x3dbl_3{half}"] for half in "ab"]
    return Mixed(layers, [["branch1x1"], *single, *double, [pool, "branch_pool"]])


def inception(seed: int) -> nn.ModuleDict:
    """FID's Inception with random weights and statistics; modules lie in the order in which they are applied."""
    torch.manual_seed(seed)
    network = nn.ModuleDict(
        {
            "Conv2d_1a_3x3": ConvNorm(3, 32, 3, stride=2),
            "Conv2d_2a_3x3": ConvNorm(32, 32, 3),
            "Conv2d_2b_3x3": ConvNorm(32, 64, 3, padding=1),
            "pool_1": nn.MaxPool2d(3, 2),
            "Conv2d_3b_1x1": ConvNorm(64, 80, 1),
            "Conv2d_4a_3x3": ConvNorm(80, 192, 3),
            "pool_2": nn.MaxPool2d(3, 2),
            "Mixed_5b": _a(192, 32),
            "Mixed_5c": _a(256, 64),
            "Mixed_5d": _a(288, 64),
            "Mixed_6a": _b(288),
            "Mixed_6b": _c(128),
            "Mixed_6c": _c(160),
            "Mixed_6d": _c(160),
            "Mixed_6e": _c(192),
            "Mixed_7a": _d(),
            "Mixed_7b": _e(1280, average),
            "Mixed_7c": _e(2048, maximum),
            "fc": nn.Linear(2048, 1008),
        }
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 1.5)
    return network.eval()


def inception_features(network: nn.ModuleDict, images):
    """[N, 2048] of uint8 [N, H, W, 3], as pytorch-fid makes them."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = 2 * F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
    for name, module in network.items():
        x = x if name == "fc" else module(x)
    return x.mean(dim=(2, 3)).numpy()
