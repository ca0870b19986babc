"""What is trained on: captures, their views and copies, latents, batches."""
