"""An avatar of Stable Diffusion 1.5's size that has learned nothing, and a capture to drive it: for times alone."""

from pathlib import Path

from benchmarks.reference import write_base

from svp_jax.capture.synthetic.capture import write_synthetic_capture
from svp_jax.training.config import Stage, TrainConfig
from svp_jax.training.train import train

SEED, FRAMES, RATE = 1, 100, 25
# One step of training, with as little memory as it can be done.
SETTINGS = TrainConfig(
    outlines=Stage(steps=1),
    details=Stage(steps=1),
    batch_size=1,
    remat="full",
    optimizer_state="factored",
    preview_steps=20,
)


def make_random_avatar(folder: Path, size: int, base: str | None = None) -> Path:
    """Writes base/, capture/ and avatar/ into `folder`, as far as they are not there; returns it.

    Args:
        size: of the pictures, in pixels; half of the capture's hundred frames are held out.
        base: another one than Stable Diffusion 1.5 with random weights.
    """
    if base is None:
        base = str(folder / "base")
        if not Path(base).exists():
            write_base(folder / "base")
    if not (folder / "capture").exists():
        write_synthetic_capture(folder / "capture", SEED, FRAMES / RATE, size=size, test_fraction=0.5)
    if not (folder / "avatar").exists():
        train(folder / "capture", base, folder / "avatar", SETTINGS)
    return folder
