"""Person-specific video avatars with Stable Diffusion and ControlNet in JAX."""

import importlib

__all__ = ["diffusion", "load_model", "metrics", "models", "save_model"]


def __getattr__(name: str):
    # On first use, so that importing the package (and `svp --help`) does not wait for JAX.
    if name in ("diffusion", "metrics", "models"):
        return importlib.import_module(f"svp_jax.{name}")
    if name in ("load_model", "save_model"):
        from svp_jax.weights import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
