"""What a program does before its first use of JAX."""

import os
import subprocess
import sys

import pytest

from svp_jax import process
from svp_jax.process import set_up_process

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


@pytest.fixture
def starts(monkeypatch):
    """The programs that it would have started in its place."""
    calls = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-X", "utf8", "/bin/svp", "--help"])
    monkeypatch.setattr(os, "execv", lambda *call: calls.append(call))
    # What it sets is taken back at the end.
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    return calls


def test_it_starts_itself_once_more_to_keep_its_memory(starts, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES")
    set_up_process()
    assert starts == [(sys.executable, [sys.executable, "-X", "utf8", "/bin/svp", "--help"])]
    # What the first process has set is what ends it, and what a user has set stays.
    for tunables in (os.environ["GLIBC_TUNABLES"], "glibc.malloc.perturb=1"):
        starts.clear()
        monkeypatch.setenv("GLIBC_TUNABLES", tunables)
        set_up_process()
        assert not starts and os.environ["GLIBC_TUNABLES"] == tunables


@pytest.mark.parametrize(
    ("before", "release", "after"),
    [
        ("--xla_a=1", "0.10.2", f"--xla_a=1 {FLAG}=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"),
        # What a user has said stays, and so does everything where the flag would end the process.
        (f"{FLAG}=LIBRARY_FUSION_TYPE_DOT", "0.10.2", f"{FLAG}=LIBRARY_FUSION_TYPE_DOT"),
        ("--xla_a=1", "0.11.0", "--xla_a=1"),
    ],
)
def test_convolutions_are_kept_from_ynnpack_where_xla_knows_the_flag(starts, monkeypatch, before, release, after):
    monkeypatch.setattr(process, "version", lambda package: release)
    monkeypatch.setenv("XLA_FLAGS", before)
    set_up_process()
    assert os.environ["XLA_FLAGS"] == after


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")
def test_a_program_of_ones_own(tmp_path):
    """Its arguments come with it, and what it has printed is not lost; the rest runs once."""
    script = tmp_path / "program.py"
    script.write_text(
        "import os, sys\n"
        "from svp_jax.process import set_up_process\n"
        "print(len(sys.argv))\n"
        "set_up_process()\n"
        "print(sys.argv[1:], os.environ['GLIBC_TUNABLES'].count('glibc'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, str(script), "--name", "two words"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "3\n3\n['--name', 'two words'] 3\n"
