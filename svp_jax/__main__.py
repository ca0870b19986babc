"""`svp`, and `python -m svp_jax`: the command line in a process that is set up for it."""

from svp_jax.cli import main as run
from svp_jax.process import set_up_process


def main() -> None:
    set_up_process()
    run()


if __name__ == "__main__":
    main()
