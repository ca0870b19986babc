"""Small random networks in PyTorch, saved by their own libraries: what the ports are compared with."""

from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity is tested against PyTorch; install the [dev] extra")
diffusers = pytest.importorskip("diffusers", reason="parity is tested against diffusers; install the [dev] extra")
transformers = pytest.importorskip("transformers")

torch.set_grad_enabled(False)

# A level's channels per head and per group differ between the levels, so that a mix-up of the two shows.
SD1 = {
    "block_out_channels": (32, 64, 96, 96),
    "norm_num_groups": 16,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
    "sample_size": 16,
}
SD2 = SD1 | {
    "attention_head_dim": (2, 4, 6, 6),
    "use_linear_projection": True,
    "upcast_attention": True,
    "cross_attention_dim": 40,
}
VAE = {
    "block_out_channels": (16, 32, 48, 48),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 64,
}
TEXT1 = {
    "vocab_size": 300,
    "hidden_size": 24,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "hidden_act": "quick_gelu",
    "bos_token_id": 298,
    "eos_token_id": 299,
    "pad_token_id": 299,
}
TEXT2 = TEXT1 | {"hidden_size": 40, "num_attention_heads": 5, "hidden_act": "gelu", "pad_token_id": 0}

HINT = {"conditioning_channels": 9, "conditioning_embedding_out_channels": (8, 12, 16, 24)}


def unet(config: dict, seed: int = 0):
    """A UNet2DConditionModel with random parameters, the norms' included."""
    torch.manual_seed(seed)
    return randomize(diffusers.UNet2DConditionModel(**config))


def controlnet(config: dict, seed: int = 1):
    """A ControlNetModel with random parameters; no convolution of it is zero."""
    torch.manual_seed(seed)
    return randomize(diffusers.ControlNetModel(**{k: v for k, v in config.items() if k != "sample_size"}, **HINT))


def vae(seed: int = 2):
    """An AutoencoderKL with random parameters."""
    torch.manual_seed(seed)
    return randomize(diffusers.AutoencoderKL(**VAE))


def text_encoder(config: dict, seed: int = 3):
    """A CLIPTextModel with random parameters."""
    torch.manual_seed(seed)
    return randomize(transformers.CLIPTextModel(transformers.CLIPTextConfig(**config)))


def randomize(module):
    """Makes every parameter visible: norms away from 1 and 0, biases away from 0, zero convolutions random.

    Biases stay small: PyTorch's GroupNorm on the CPU takes E[x^2] - E[x]^2, which is off by 1e-4 of the output's
    deviation where a group's mean is five times its deviation.
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            mean, deviation = (1.0, 0.3) if name.endswith("weight") else (0.0, 0.1)
            parameter.copy_(mean + deviation * torch.randn_like(parameter))
        elif not parameter.any():
            parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return module.eval()


def saved(module, folder: Path) -> Path:
    """The folder into which the module's own library has saved it."""
    module.save_pretrained(folder)
    return folder


def to_torch(x):
    """Our array for PyTorch: NHWC becomes NCHW, everything else stays."""
    x = np.asarray(x)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x))


def to_numpy(x) -> np.ndarray:
    """PyTorch's tensor for us: NCHW becomes NHWC, everything else stays."""
    x = x.detach().numpy()
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def difference(ours: jax.Array, theirs) -> float:
    """Largest absolute difference over the standard deviation of the reference's output."""
    theirs = to_numpy(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(np.asarray(ours) - theirs).max() / theirs.std())


def record_calls(module, names: list[str]) -> dict[str, tuple]:
    """A dictionary that the module's next forward pass fills: submodule name -> (args, kwargs, output)."""
    calls = {}

    def remember(name):
        def hook(_module, args, kwargs, output):
            calls[name] = (args, kwargs, output)

        return hook

    for name in names:
        module.get_submodule(name).register_forward_hook(remember(name), with_kwargs=True)
    return calls
