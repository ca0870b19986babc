"""What the benchmarks share: diffusers' networks with random weights, and timing in turns."""

import time
from collections.abc import Callable
from pathlib import Path

SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
CLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
VOCABULARY = Path(__file__).parents[2] / "svp_jax" / "assets" / "tiny_base" / "tokenizer"
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


def write_base(folder: Path) -> Path:
    """A base of SD 1.5's size with random weights, as diffusers saves it, into `folder`; returns it."""
    import diffusers
    import transformers

    diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**VAE),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP)),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(VOCABULARY),
        unet=torch_network("unet", SD15),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


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
