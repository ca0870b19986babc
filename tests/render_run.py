"""A render as a program, for tests that kill it.

    python render_run.py AVATAR DRIVER OUT

Prints a line as it starts, before it writes each chunk, and before it finishes.
"""

import sys
import warnings
from pathlib import Path

from svp_jax.rendering import render as render_module
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render


class TellingWriter(render_module.RenderWriter):
    def write(self, *arguments) -> None:
        print("chunk", flush=True)
        super().write(*arguments)

    def finish(self) -> None:
        print("finish", flush=True)
        super().finish()


def main(avatar: Path, driver: Path, out: Path) -> None:
    warnings.simplefilter("ignore")
    render_module.RenderWriter = TellingWriter
    print("start", flush=True)
    render(avatar, driver, out, RenderOptions(steps=2, frames="all", chunk=1))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
