"""The measured training step in PyTorch, with diffusers' networks, at PyTorch's best."""

from collections.abc import Callable

import numpy as np
import torch
from benchmarks.settings import ADAM_BETAS, CLIP_NORM, LEARNING_RATE, SCHEDULER, UNET_MULTIPLIER, WEIGHT_DECAY
from diffusers import DDPMScheduler
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode


def step_in_torch(
    networks: dict[str, torch.nn.Module], batch: dict[str, np.ndarray], on_gpu: bool
) -> tuple[Callable[[], float], Callable[[], dict], int]:
    """A training step on `batch` (as `train.make_batch` makes it) that can be taken again and again.

    On a GPU in bfloat16 by autocast and with torch.compile, on the CPU in float32 as it is.

    Returns:
        step() -> its loss; after the first step gradients() -> network's name -> parameter's name -> the clipped
        gradient; and the floating point operations of a step.
    """
    device = torch.device("cuda" if on_gpu else "cpu")
    for network in networks.values():
        network.to(device, memory_format=torch.channels_last).train()
    unet, controlnet = networks["unet"], networks["controlnet"]
    unet.requires_grad_(False)
    decoder = [*unet.up_blocks.parameters(), *unet.conv_norm_out.parameters(), *unet.conv_out.parameters()]
    for parameter in decoder:
        parameter.requires_grad_(True)
    trained = [*controlnet.parameters(), *decoder]
    groups = [{"params": list(controlnet.parameters())}, {"params": decoder, "lr": LEARNING_RATE * UNET_MULTIPLIER}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, ADAM_BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = DDPMScheduler(**SCHEDULER)

    latents, noise = (_pictures(batch[key], device) for key in ("latents", "noise"))
    condition = _pictures(batch["condition"], device)
    timesteps, text = (torch.from_numpy(batch[key]).to(device) for key in ("timesteps", "text"))

    def loss_of() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            noisy = schedule.add_noise(latents, noise, timesteps)
            down, middle = controlnet(noisy, timesteps, text, condition.float() / 255, return_dict=False)
            prediction = unet(
                noisy,
                timesteps,
                text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )[0]
        return mse_loss(prediction.float(), noise)

    with FlopCounterMode(display=False) as counter:
        loss_of().backward()
    fast_loss_of = torch.compile(loss_of) if on_gpu else loss_of

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = fast_loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM, foreach=True)
        optimizer.step()
        return loss.item()

    def gradients() -> dict[str, dict[str, torch.Tensor]]:
        # After one step the first moments are the clipped gradients times 1 - beta_1.
        return {
            name: {
                key: optimizer.state[parameter]["exp_avg"].cpu() / (1 - ADAM_BETAS[0])
                for key, parameter in network.named_parameters()
                if parameter.requires_grad
            }
            for name, network in networks.items()
        }

    return step, gradients, counter.get_total_flops()


def _pictures(x: np.ndarray, device: torch.device) -> torch.Tensor:
    """[B,H,W,C] as PyTorch's [B,C,H,W] with the channels last in memory, as they are."""
    return torch.from_numpy(x).to(device).permute(0, 3, 1, 2)
