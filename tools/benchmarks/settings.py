"""The training step that is measured, for both sides."""

SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
LEARNING_RATE = 1e-5
UNET_MULTIPLIER = 0.2
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
ADAM_BETAS = (0.9, 0.999)
