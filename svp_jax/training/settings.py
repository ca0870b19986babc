"""How a run of the loop is carried out, whatever it trains."""

from dataclasses import dataclass

from svp_jax.training.config import TrainConfig
from svp_jax.training.step.optimizer import OptimizerSettings


@dataclass(frozen=True)
class RunSettings:
    """The fields of `TrainConfig` that the loop needs, for one of its runs.

    Attributes:
        steps: optimizer steps.
        batch_size: samples of a step, over all devices and `accumulation` parts.
        section: of the config, where the run has one of its own ("vae"), as messages name its settings.
    """

    steps: int
    batch_size: int
    seed: int
    optimizer: OptimizerSettings
    save_every: int
    preview_every: int
    accumulation: int = 1
    precision: str = "float32"
    remat: str = "none"
    ema_decay: float = 0.0
    loader_processes: int = 0
    section: str = ""

    @classmethod
    def of(cls, config: TrainConfig, steps: int, learning_rate: float) -> "RunSettings":
        """Those of a stage."""
        return cls(
            steps=steps,
            batch_size=config.batch_size,
            seed=config.seed,
            optimizer=OptimizerSettings.of(config, learning_rate),
            save_every=config.save_every,
            preview_every=config.preview_every,
            accumulation=config.accumulation,
            precision=config.precision,
            remat=config.remat,
            ema_decay=config.ema_decay,
            loader_processes=config.loader_processes,
        )
