"""`python -m svp_jax` is `svp`."""

from svp_jax.cli import main

if __name__ == "__main__":
    main()
