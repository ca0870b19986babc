"""A render as a program, for tests that kill it.

    python render_run.py AVATAR DRIVER OUT

Prints "chunk" before it writes each chunk, and at the end one line of JSON: the hashes of its files.
"""

import json
import sys
import warnings
from pathlib import Path

from svp_jax.manifest import read_manifest
from svp_jax.rendering import render as render_module
from svp_jax.rendering.options import RenderOptions
from svp_jax.rendering.render import render

CHUNKS = 8


class TellingWriter(render_module.RenderWriter):
    def write(self, *arguments) -> None:
        print("chunk", flush=True)
        super().write(*arguments)


def main(avatar: Path, driver: Path, out: Path) -> None:
    warnings.simplefilter("ignore")
    render_module.RenderWriter = TellingWriter
    if not out.exists():
        render(avatar, driver, out, RenderOptions(steps=2, frames="all", chunk=1))
    print(json.dumps(read_manifest(out, "render")["files"]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
