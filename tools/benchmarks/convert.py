"""Conversion of a full-size single file, and loading: time and memory."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.reference import VOCABULARY, write_base


def benchmark_conversion(work: Path) -> None:
    """Time and peak memory of a process that converts a float32 SD 1.5 file, and of one that loads a float16 folder."""
    file, folder, halves = work / "sd15.safetensors", work / "converted", work / "halves"
    if not file.exists():
        _write_checkpoint(work, file)
    for target in (folder, halves):
        if target.exists():
            sys.exit(f"{target} is left over from an earlier run; remove it")
    print(f"{file.name}: {file.stat().st_size / 1e9:.2f} GB")
    convert = "from svp_jax.cli import main; main()"
    _measure("convert to a folder", convert, "convert", file, folder, "--tokenizer", VOCABULARY)
    _measure("convert to a float16 folder", convert, "convert", folder, halves, "--dtype", "float16")
    use = "import sys; from svp_jax.weights.base import load_base; base = load_base(sys.argv[1])"
    _measure("load the float16 folder", use, halves)


def _write_checkpoint(work: Path, file: Path) -> None:
    """A single file of SD 1.5's size with random weights, by way of the folder that diffusers saves."""
    base = write_base(work / "base")
    subprocess.run([sys.executable, "-m", "svp_jax", "convert", base, file], check=True)


def _measure(what: str, code: str, *arguments: object) -> None:
    """Runs Python code in a process of its own; prints its seconds and the most memory it held (Linux)."""
    # The kernel's count for a finished child begins with what its parent held; this one is the child's alone.
    code += "; import pathlib; print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    start = time.perf_counter()
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    print(f"{what:<32}{seconds:>7.1f} s{int(done.stdout.split()[-1]) / 1e6:>7.2f} GB", flush=True)
