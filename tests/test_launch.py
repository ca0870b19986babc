"""The launch scripts, with stand-ins for ssh, srun and svp."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from svp_jax import cli

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "tools" / "launch"
# Writes down what it was called with. With --remat full it is told to wait for a signal, as a training run would.
SVP = """#!{python}
import json, os, signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
name = sys.argv[sys.argv.index("--process") + 1] if "--process" in sys.argv else "0"
with open("{folder}/called." + name, "w") as file:
    json.dump(sys.argv[1:], file)
os.rename("{folder}/called." + name, "{folder}/called_" + name)
print("training", flush=True)
deadline = time.monotonic() + 60
while "full" in sys.argv and time.monotonic() < deadline:
    time.sleep(0.05)
"""
SSH = '#!/bin/bash\n[ "$1 $2" = "-o BatchMode=yes" ] || exit 9\nexec bash -c "$4"\n'
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "$@" >{folder}/requeued\n'


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A folder of programs that are found first, and a virtual environment with an `svp`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("svp", SVP), ("ssh", SSH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text.replace("{python}", sys.executable).replace("{folder}", str(tmp_path)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("VENV", str(tmp_path))
    monkeypatch.setenv("LOGS", str(tmp_path / "logs"))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("CONFIG", raising=False)
    return tmp_path


def start(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([LAUNCH / script, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(program: subprocess.Popen) -> tuple[int, str]:
    _, errors = program.communicate(timeout=60)
    return program.returncode, errors


def called(folder: Path, number: int = 0) -> dict:
    """The flags that `svp train` would be called with; they must be its flags."""
    path, deadline = folder / f"called_{number}", time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return flags(json.loads(path.read_text()))


def flags(arguments: list[str]) -> dict:
    command = cli._parse(arguments)
    assert command.func is cli.train
    return command.keywords


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCH.glob("*.sh")))
def test_scripts_are_shell(script):
    subprocess.run(["bash", "-n", LAUNCH / script], check=True)


def test_hosts_are_one_process_each(stand_ins):
    out = stand_ins / "an avatar"
    program = start("train_hosts.sh", "me@one,two", "capture", "--base", "tiny", "--out", str(out), "--prompt", "a 'b'")
    assert finish(program)[0] == 0
    for number in range(2):
        found = called(stand_ins, number)
        assert (found["coordinator"], found["processes"], found["process"]) == ("one:8476", 2, number)
        assert (found["out"], found["prompt"], found["captures"]) == (out, "a 'b'", (Path("capture"),))
    assert (stand_ins / "logs" / "two.log").read_text() == "training\n"


def test_hosts_are_told_to_stop(stand_ins):
    arguments = ("capture", "--base", "tiny", "--out", "avatar", "--remat", "full")
    program = start("train_hosts.sh", "one,two", *arguments)
    called(stand_ins, 0), called(stand_ins, 1)
    program.send_signal(signal.SIGTERM)
    code, errors = finish(program)
    assert code == 143 and "one ended with 143" in errors
    assert [(stand_ins / "logs" / f"{host}.log").read_text() for host in ("one", "two")] == ["training\nsaved\n"] * 2


def test_hosts_without_a_capture(stand_ins):
    code, errors = finish(start("train_hosts.sh", "one"))
    assert code == 2 and "train_hosts.sh HOST[,HOST...] CAPTURE" in errors


def test_slurm(stand_ins, monkeypatch):
    for name in ("CAPTURE", "BASE", "OUT"):
        monkeypatch.delenv(name, raising=False)
    code, errors = finish(start("train_slurm.sh"))
    assert code != 0 and "CAPTURE: the folder that svp prepare made" in errors
    for name, value in (("CAPTURE", "some capture"), ("BASE", "tiny"), ("OUT", str(stand_ins / "avatar"))):
        monkeypatch.setenv(name, value)
    assert finish(start("train_slurm.sh", "--parallel", "fsdp"))[0] == 0
    found = called(stand_ins)
    assert found["captures"] == (Path("some capture"),) and (ROOT / found["config"]).is_file()
    assert (found["parallel"], found["device"], found["coordinator"]) == ("fsdp", "gpu", None)
    assert not (stand_ins / "requeued").exists()
    # A run that was stopped goes back into the queue.
    (stand_ins / "called_0").unlink()
    program = start("train_slurm.sh", "--remat", "full")
    called(stand_ins)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(program.pid)], capture_output=True, text=True).stdout
    # SLURM signals the step, not the script.
    subprocess.run(["kill", "-TERM", *children.split()], check=True)
    assert finish(program)[0] == 143
    assert (stand_ins / "requeued").read_text() == "requeue 7\n"


def test_kubernetes():
    service, job = yaml.safe_load_all((LAUNCH / "train_kubernetes.yaml").read_text())
    pod, spec = job["spec"]["template"]["spec"], job["spec"]
    found = flags(pod["containers"][0]["args"])
    assert found["processes"] == spec["completions"] == spec["parallelism"] and spec["completionMode"] == "Indexed"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}


def test_docker():
    text = (LAUNCH / "Dockerfile").read_text()
    usage = re.search(r"#\s+(train .*)", text)[1].split()
    assert flags(usage)["base"] == "tiny"
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (.*)", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() and source in kept
    # As the command line advises where they are missing.
    assert "libgl1 libegl1 libgles2 libglib2.0-0" in text
    assert "libgl1 libegl1 libgles2 libglib2.0-0" in Path(cli.__file__).read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck():
    subprocess.run(["shellcheck", *LAUNCH.glob("*.sh")], check=True)
