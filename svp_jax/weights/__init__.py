"""Weights on disk: safetensors under diffusers' names and shapes; Flax parameters exist in memory only."""
