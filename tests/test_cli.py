"""The command line: exit codes, one line for each error, nothing half-written."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from factories import make_avatar, make_base, make_capture
from safetensors.numpy import load_file, save_file

from svp_jax import cli
from svp_jax.manifest import sha256_folder
from svp_jax.training.config import TrainConfig

WEIGHTS = "diffusion_pytorch_model.safetensors"
COMMANDS = ("demo", "prepare", "train", "render", "evaluate", "ablate", "convert", "assets", "inspect")


@pytest.fixture
def svp(monkeypatch, capsys):
    """Runs `svp` in this process: (*arguments) -> (exit code, standard output, standard error)."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("TF_CPP_MIN_LOG_LEVEL", "GLOG_minloglevel", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["svp", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def fails(svp):
    """As `svp`, for bad input: checks the exit code and the form of the message, and returns it."""

    def run(*arguments):
        code, out, error = svp(*arguments)
        assert code == 2
        assert out == ""
        assert error.startswith("svp: error: ")
        assert error.count("\n") == 1 and error.endswith("\n")
        return error.removeprefix("svp: error: ").rstrip("\n")

    return run


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def capture_folder(tmp_path_factory):
    return make_capture(tmp_path_factory.mktemp("capture") / "capture", 12)


def test_help_of_all(svp):
    for arguments in ((), ("-h",), ("--help",)):
        code, out, error = svp(*arguments)
        assert (code, error) == (0, "")
        assert all(f"svp {name} " in out for name in COMMANDS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("demo", ["--out", "(default: 0)"]),
        ("prepare", ["VIDEO", "--size", "(default: 512)", "(default: 0.2)", "the video's own"]),
        ("train", ["CAPTURE", "--base STR", "(default: both)", "--save-every", "default: the config's"]),
        ("render", ["AVATAR DRIVER", "--steps", "--quality where not given", "--strength", "(default: 1.0)", "--tau"]),
        ("evaluate", ["VIDEO [VIDEO ...]", "--reference", "lpips_alex", "(default: False)"]),
        ("ablate", ["AVATAR CAPTURE", "--grid", "current=rest", "32 renders", "(default: test)", "--write-best"]),
        (
            "convert",
            ["SOURCE TARGET", "--transfer OLD_BASE NEW_BASE", "default: the source's", "--ema"],
        ),
        ("assets", ["--fetch", "--mirror", "default: the network", "--accept-non-commercial"]),
        ("inspect", ["PATH"]),
    ],
)
def test_help_of_each_names_its_defaults(svp, command, words):
    code, out, error = svp(command, "--help")
    assert (code, error) == (0, "")
    # As wrapped for a terminal, without its frame.
    text = " ".join(out.replace("│", " ").split())
    assert all(word in text for word in words), text
    # What holds where a flag is left out is said in words.
    assert not any(word in text for word in ("None", "(default: )", "default: ''"))


def test_as_a_module():
    def run(*arguments):
        command = [sys.executable, "-m", "svp_jax", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good, bad = run("--help"), run("trian")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("usage: svp COMMAND")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == f"svp: error: unknown command 'trian'; allowed are {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "c", "--base", "tiny", "--out", "o", "--setps", "3"],
            "Unrecognized options: --setps, 3; perhaps you meant --steps INT; see",
        ),
        (
            ["render", "a", "d", "--out", "o", "--swep", "x", "--strenght", "2"],
            "; perhaps you meant --strength FLOAT; ",
        ),
        (
            ["train", "c", "--base", "tiny", "--out", "o", "--device", "foo"],
            "Expected one of any, cpu, gpu; see `svp train --help`",
        ),
        (["inspect", "..", ".."], "Unrecognized options: ..; see"),
        (["inspect", "c", "d"], "Unrecognized options: d; see `svp inspect --help`"),
        (["train", "c", "--base", "tiny"], "Missing from svp train: --out PATH; see"),
        (["ablate", "a"], "Missing from svp ablate: CAPTURE, --out PATH; see"),
        (["evaluate", "a", "b", "--out", "o", "--metrics", "PSNR"], "psnr is one of the group pictures"),
        (["evaluate", "a", "b", "--out", "o", "--metrics", "tracing"], "did you mean tracking?"),
        (["render"], "AVATAR"),
        (
            ["train", "c", "--base", "tiny", "--out", "o", "--steps", "few"],
            "Error parsing --steps: no type matching INT",
        ),
        (["train", "--base", "tiny", "--out", "o"], "no capture is given; give one or more folders"),
        (["prepare", "v", "--out", "o", "--size", "1.5"], "--size"),
        (
            ["train", "c", "--base", "tiny", "--out", "o", "--stage", "third"],
            "invalid choice 'third' for argument '--stage'. Expected one of both, details, outlines; see",
        ),
        (["prepare", "v", "--out", "o", "--frame-rate", "fast"], "--frame-rate fast: allowed are numbers"),
        (["render", "a", "d", "--out", "o", "--tau", "2"], "--tau 2.0: allowed are 0 to 1"),
        (["ablate", "a", "c", "--out", "o", "--grid", "tua=1"], "unknown axis tua; did you mean tau?"),
    ],
)
def test_arguments_that_do_not_fit(fails, arguments, words):
    assert words in fails(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "{}/none.mp4", "--out", "{}/out"],
        ["train", "{}/none", "--base", "tiny", "--out", "{}/out"],
        ["render", "{}/none", "{}/none", "--out", "{}/out"],
        ["evaluate", "{}/none", "{}/none", "--out", "{}/out"],
        ["ablate", "{}/none", "{}/none", "--out", "{}/out"],
        ["inspect", "{}/none"],
    ],
)
def test_inputs_that_are_not_there(fails, tmp_path, arguments):
    assert str(tmp_path / "none") in fails(*(argument.format(tmp_path) for argument in arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_no_multiple_of_64(fails, tmp_path):
    message = fails("prepare", tmp_path / "v.mp4", "--out", tmp_path / "out", "--size", 100)
    assert message == "--size 100: allowed are multiples of 64, such as 128"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["prepare", "train", "render", "evaluate", "ablate"])
def test_what_is_finished_is_not_overwritten(fails, tmp_path, capture_folder, command):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    inputs = [capture_folder] if command in ("prepare", "train") else [capture_folder, capture_folder]
    base = ["--base", "tiny"] if command == "train" else []
    message = fails(command, *inputs, *base, "--out", tmp_path / "out")
    assert message == f"--out {tmp_path / 'out'} exists; add --force to replace it, or choose another folder"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_edited_manifest(fails, tmp_path, capture_folder):
    capture = shutil.copytree(capture_folder, tmp_path / "capture")
    path = capture / "capture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": 512}))
    for inputs in (["train", capture, "--base", "tiny"], ["evaluate", capture, capture]):
        assert f"{path} was edited" in fails(*inputs, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["capture"]


def test_a_base_with_a_missing_tensor(fails, tmp_path, base_folder, capture_folder):
    base = shutil.copytree(base_folder, tmp_path / "base")
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["mid_block.resnets.0.norm1.weight"]
    save_file(tensors, weights)
    message = fails("train", capture_folder, "--base", base, "--out", tmp_path / "out")
    assert f"{weights} does not fit its config.json: missing tensors: mid_block.resnets.0.norm1.weight" in message
    assert not list(tmp_path.glob("out*"))


def test_a_prompt_that_is_too_long(fails, tmp_path, base_folder, capture_folder):
    message = fails("train", capture_folder, "--base", base_folder, "--out", tmp_path / "out", "--prompt", "x" * 76)
    assert "has 76 tokens, allowed are 75; shorten it" in message
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_below_a_file(fails, tmp_path, base_folder, capture_folder):
    (tmp_path / "file").touch()
    message = fails("train", capture_folder, "--base", base_folder, "--out", tmp_path / "file" / "out")
    assert message == f"--out {tmp_path / 'file' / 'out'}: cannot write there (Not a directory); choose another folder"


def test_a_full_disk(svp, tmp_path, capture_folder, monkeypatch):
    """Refused while the report is written: one line, and no report."""

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, error = svp("evaluate", capture_folder, capture_folder, "--out", tmp_path / "out")
    assert code == 2
    # After the progress bars.
    assert error.splitlines()[-1].startswith("svp: error: ")
    assert "No space left on device" in error.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_system_is_one_line_too(fails, monkeypatch, tmp_path):
    def full(*args):
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr("svp_jax.inspect.inspect", full)
    assert fails("inspect", tmp_path) == "No space left on device: /data/x"


def test_a_user_error_keeps_to_one_line(fails, monkeypatch, tmp_path):
    monkeypatch.setattr("svp_jax.inspect.inspect", lambda path: ["first", "second\nwith a break"])
    assert fails("inspect", tmp_path) == f"{tmp_path}: first; second with a break"


def test_a_bug_is_no_user_error(svp, monkeypatch, tmp_path):
    def broken(path):
        raise ZeroDivisionError

    monkeypatch.setattr("svp_jax.inspect.inspect", broken)
    with pytest.raises(ZeroDivisionError):
        svp("inspect", tmp_path)


def test_a_device_out_of_memory_is_one_line(svp, fails, monkeypatch, tmp_path):
    message = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes."

    def greedy(path):
        raise RuntimeError(message)

    monkeypatch.setattr("svp_jax.inspect.inspect", greedy)
    assert fails("inspect", tmp_path).startswith(
        "the device is out of memory; train with --accumulation or --remat full"
    )
    message = "INTERNAL: a bug"
    with pytest.raises(RuntimeError, match="a bug"):
        svp("inspect", tmp_path)


def test_an_interruption(svp, monkeypatch, tmp_path):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("svp_jax.inspect.inspect", interrupted)
    code, _, error = svp("inspect", tmp_path)
    assert code == 130
    assert error == "svp: interrupted; the same command goes on where it can\n"


def test_warnings_are_one_line(svp, monkeypatch, tmp_path):
    def warns(path):
        warnings.warn("half of it is gone", stacklevel=1)
        warnings.warn("not for users", DeprecationWarning, stacklevel=1)
        return []

    monkeypatch.setattr("svp_jax.inspect.inspect", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert svp("inspect", tmp_path) == (0, "", "svp: warning: half of it is gone\n")


def test_inspect_prints_and_succeeds(svp, capture_folder):
    code, out, error = svp("inspect", capture_folder)
    assert (code, error) == (0, "")
    assert out.startswith(f"capture {capture_folder}\n")


class Recorder:
    """Stands for the function that a command calls."""

    def __call__(self, *args):
        self.args = args


@pytest.fixture
def training(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr("svp_jax.training.train.train", recorder)
    return recorder


def test_train_takes_the_preset_and_the_flags_over_it(svp, training, capture_folder, tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 3\nbatch_size: 8\ndetails:\n  steps: 70\n  trainable: full\n")
    flags = ["--config", tmp_path / "c.yaml", "--steps", 5, "--batch-size", 2, "--stage", "details", "--force"]
    code, out, _ = svp("train", capture_folder, "--base", "b", "--out", tmp_path / "out", *flags)
    assert code == 0
    assert out.splitlines()[-1] == f"wrote the avatar {tmp_path / 'out'}"
    captures, base, out, config, stage, force = training.args
    assert (captures, base, out, stage, force) == ((capture_folder,), "b", tmp_path / "out", "details", True)
    stages = [dataclasses.replace(getattr(TrainConfig(), name), steps=5) for name in ("outlines", "details")]
    details = dataclasses.replace(stages[1], trainable="full")
    assert config == TrainConfig(seed=3, batch_size=2, outlines=stages[0], details=details)


def test_the_prompt_of_the_flag_goes_before_the_presets(svp, training, capture_folder, tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("prompt: she")
    command = ["train", capture_folder, "--base", "tiny", "--out", tmp_path / "out"]
    config = ["--config", preset]
    for flags, prompt in (([], ""), (config, "she"), ([*config, "--prompt", "a man"], "a man")):
        svp(*command, *flags)
        assert training.args[3].prompt == prompt


def test_render_flags_are_the_options_fields(svp, monkeypatch, tmp_path):
    recorder = Recorder()
    monkeypatch.setattr("svp_jax.rendering.render.render", recorder)
    svp("render", "a", "d", "--out", tmp_path / "out", "--steps", 7, "--unet", "base", "--prompt", "X", "--no-force")
    avatar, driver, out, options = recorder.args
    assert (avatar, driver, out) == (Path("a"), Path("d"), tmp_path / "out")
    assert (options.steps, options.unet, options.prompt, options.force) == (7, "base", "X", False)


def test_nothing_is_written_beside_the_inputs(svp, tmp_path):
    capture = make_capture(tmp_path / "capture", 12)
    before = sha256_folder(capture)
    code, out, _ = svp("evaluate", capture, capture, "--out", tmp_path / "report")
    report = tmp_path / "report"
    assert code == 0 and out.splitlines()[-1] == f"wrote the report {report}; open {report / 'report.html'}"
    assert svp("inspect", capture)[0] == svp("inspect", tmp_path / "report")[0] == 0
    assert sha256_folder(capture) == before
    assert {path.name for path in tmp_path.iterdir()} == {"capture", "report"}


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_system_library_that_is_missing_is_named(fails, monkeypatch, tmp_path, kind):
    def inspect(_):
        raise kind("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("svp_jax.inspect.inspect", inspect)
    message = fails("inspect", tmp_path)
    assert message.startswith("libGL.so.1: cannot open") and "apt-get install libgl1" in message


def test_another_missing_module_is_a_defect_of_ours(svp, monkeypatch, tmp_path):
    def inspect(_):
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr("svp_jax.inspect.inspect", inspect)
    with pytest.raises(ImportError, match="cannot import name"):
        svp("inspect", tmp_path)


def test_an_empty_cache_variable_is_none(monkeypatch):
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": ""})
    cli._quiet_libraries()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(Path.home() / ".cache" / "svp_jax" / "compiled")


def test_convert_says_what_it_read_and_wrote(svp, base_folder, tmp_path):
    code, out, error = svp("convert", base_folder, tmp_path / "base.safetensors", "--dtype", "float16")
    assert (code, error) == (0, "")
    assert out == (
        f"{base_folder} is a diffusers folder: UNet in float32, VAE in float32, TextEncoder in float32\n"
        f"wrote {tmp_path / 'base.safetensors'}\n"
    )
    code, out, _ = svp("inspect", tmp_path / "base.safetensors")
    assert code == 0 and out.startswith(f"weights {tmp_path / 'base.safetensors'}\n") and "UNet in float16" in out
    avatar = make_avatar(tmp_path / "avatar", base_folder)
    code, out, error = svp("convert", "--transfer", base_folder, base_folder, avatar, tmp_path / "moved", "--unet")
    assert (code, out, error) == (0, f"wrote the avatar {tmp_path / 'moved'}\n", "")
    svp("convert", avatar, tmp_path / "details.safetensors")
    code, out, error = svp("convert", tmp_path / "details.safetensors", tmp_path / "again", "--avatar")
    assert (code, out, error) == (0, f"wrote the avatar {tmp_path / 'again'}\n", "")
    code, out, error = svp("inspect", tmp_path / "again")
    assert (code, error) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("only",), "Missing from svp convert: TARGET"),
        (("one", "two", "three"), "Unrecognized options: three"),
        (("a", "b", "--unet"), "--unet is for --transfer; leave it out"),
        (("a", "b", "--avatar", "--dtype", "float16"), "--dtype has no meaning with --avatar; leave it out"),
        (("--transfer", "x", "y", "a", "b", "--vae", "c"), "--vae has no meaning with --transfer; leave it out"),
        (("absent", "target"), "absent: no such file or folder"),
    ],
)
def test_convert_with_paths_that_do_not_fit(fails, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fails("convert", *arguments).startswith(message)
    assert not list(tmp_path.iterdir())


def test_inspect_names_what_a_file_is(svp, base_folder, tmp_path):
    tensors = {"lora_unet_down.lora_up.weight": load_file(base_folder / "vae" / WEIGHTS)["quant_conv.bias"]}
    save_file(tensors, tmp_path / "lora.safetensors")
    code, _, error = svp("inspect", tmp_path / "lora.safetensors")
    assert code == 2 and "is a LoRA" in error
    (tmp_path / "text.txt").write_text("no weights")
    code, _, error = svp("inspect", tmp_path / "text.txt")
    assert code == 2 and "a file of weights ends in" in error


def test_assets(svp, fails, monkeypatch, tmp_path):
    for name in ("SVP_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    code, out, error = svp("assets")
    assert (code, error) == (0, "") and "face_landmarker.task" in out and "CreativeML OpenRAIL-M" in out
    assert "no such file in the registry" in fails("assets", "--fetch", "nothing")
