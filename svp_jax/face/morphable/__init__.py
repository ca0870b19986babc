"""Parametric face models: FaceParameters in, vertices before a perspective camera out; pure JAX."""
