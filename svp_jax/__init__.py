"""Person-specific video avatars with Stable Diffusion and ControlNet in JAX."""

__all__ = ["load_model", "save_model"]


def __getattr__(name: str):
    # On first use, so that importing the package (and `svp --help`) does not wait for JAX.
    if name in __all__:
        from svp_jax.weights import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
