"""What the benchmarks share: diffusers' networks with random weights, and timing in turns."""

import time
from collections.abc import Callable

SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
CONDITION_CHANNELS = 9


def torch_network(name: str, config: dict, **options):
    """diffusers' "unet" or "controlnet" with random weights; the ControlNet's zero convolutions are random too.

    Args:
        config: of the UNet; the ControlNet takes what it knows of it, and `options`.
    """
    import diffusers
    import torch

    torch.manual_seed(0)
    if name == "unet":
        return diffusers.UNet2DConditionModel(**config)
    config = {
        key: value for key, value in config.items() if key not in ("sample_size", "up_block_types", "out_channels")
    }
    model = diffusers.ControlNetModel(**config, conditioning_channels=CONDITION_CHANNELS, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.02 * torch.randn_like(parameter))
    return model


def alternate(ours: Callable, theirs: Callable, repeats: int) -> tuple[float, float, object, object]:
    """The fastest of `repeats` runs of each after one to warm up, in turns; and their last results."""
    times = {ours: [], theirs: []}
    results = {}
    for turn in range(repeats + 1):
        for call, taken in times.items():
            start = time.perf_counter()
            results[call] = call()
            if turn:
                taken.append(time.perf_counter() - start)
    return min(times[ours]), min(times[theirs]), results[ours], results[theirs]
