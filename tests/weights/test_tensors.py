"""Files of tensors: read lazily, written one by one, and refused where they are damaged or would do harm."""

import json
import os
import pickle
import sys
import types

import ml_dtypes
import numpy as np
import pytest
from factories import file_size_limit
from safetensors.numpy import load_file, save_file
from torch_reference import torch

from svp_jax.errors import UserError
from svp_jax.weights.pickles import open_pickle
from svp_jax.weights.tensors import LazyTensor, open_safetensors, open_sharded, write_safetensors


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "a": rng.standard_normal((3, 4)).astype(np.float32),
        "b": rng.standard_normal(5).astype(ml_dtypes.bfloat16),
        "c": np.array(2.5, np.float16),
        "d": np.arange(6).reshape(2, 3),
        "e": np.zeros((0, 2), np.float32),
    }


def lazy(arrays):
    return {name: LazyTensor(value.shape, value.dtype, lambda value=value: value) for name, value in arrays.items()}


def test_the_librarys_files_are_read(arrays, tmp_path):
    save_file(arrays, tmp_path / "x.safetensors", metadata={"by": "the library"})
    tensors, texts = open_safetensors(tmp_path / "x.safetensors")
    assert texts == {"by": "the library"} and tensors.keys() == arrays.keys()
    for name, value in arrays.items():
        assert (tensors[name].shape, tensors[name].dtype) == (value.shape, value.dtype)
        np.testing.assert_array_equal(tensors[name].read(), value)


def test_the_library_reads_ours(arrays, tmp_path):
    write_safetensors(tmp_path / "x.safetensors", lazy(arrays), {"by": "us"})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    save_file(arrays, tmp_path / "theirs.safetensors", metadata={"by": "us"})
    assert (tmp_path / "x.safetensors").stat().st_size == (tmp_path / "theirs.safetensors").stat().st_size


def test_nothing_is_left_of_a_file_that_could_not_be_written(arrays, tmp_path):
    bad = arrays | {"f": np.float32([1, np.nan])}
    with pytest.raises(UserError, match=r"f holds numbers that are not finite; x\.safetensors was not written"):
        write_safetensors(tmp_path / "x.safetensors", lazy(bad), {})
    wide = arrays | {"f": np.zeros(10_000, np.float32)}
    with file_size_limit(5_000), pytest.raises(OSError):
        write_safetensors(tmp_path / "x.safetensors", lazy(wide), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:20],
        lambda raw: raw[:-3],
        lambda raw: raw + b"more",
        lambda raw: (1 << 60).to_bytes(8, "little") + raw[8:],
        lambda raw: raw.replace(b'"shape":[3,4]', b'"shape":[3,9]'),
        lambda raw: raw.replace(b"F32", b"F77"),
        lambda raw: b"",
        lambda raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n",
    ],
    ids=[
        "header cut",
        "body cut",
        "too long",
        "header claims more",
        "shape claims more",
        "type",
        "empty",
        "lfs pointer",
    ],
)
def test_damaged_files(arrays, tmp_path, spoil):
    path = tmp_path / "x.safetensors"
    save_file(arrays, path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        UserError, match=r"x\.safetensors is not a readable safetensors file .*download or save"
    ) as caught:
        open_safetensors(path)
    assert "\n" not in str(caught.value)


def shards(folder, arrays):
    save_file({name: arrays[name] for name in "ab"}, folder / "1.safetensors")
    save_file({name: arrays[name] for name in "cde"}, folder / "2.safetensors")
    places = dict.fromkeys("ab", "1.safetensors") | dict.fromkeys("cde", "2.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index, places


def test_shards(arrays, tmp_path):
    index, _ = shards(tmp_path, arrays)
    tensors = open_sharded(index)
    assert {name: tensor.read().tolist() for name, tensor in tensors.items()} == {
        name: value.tolist() for name, value in arrays.items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda places: places | {"a": "../1.safetensors"}, r"names the file '\.\./1\.safetensors', allowed are names"),
        (lambda places: places | {"a": "/etc/passwd"}, "names the file '/etc/passwd'"),
        (lambda places: places | {"a": 3}, "names the file 3"),
        (lambda places: places | {"z": "1.safetensors"}, r"1\.safetensors does not fit .*: it lacks z"),
        (
            lambda places: {k: v for k, v in places.items() if k != "c"},
            r"2\.safetensors does not fit .*: it also holds c",
        ),
        (lambda places: places | {"z": "3.safetensors"}, r"3\.safetensors: cannot read it"),
        (lambda places: [], "is not a readable index"),
    ],
)
def test_a_bad_index(arrays, tmp_path, change, message):
    index, places = shards(tmp_path, arrays)
    index.write_text(json.dumps({"weight_map": change(places)}))
    with pytest.raises(UserError, match=message):
        open_sharded(index)


class Harmful:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("kind", ["zip", "old", "plain"])
def test_pickled_code_does_not_run(tmp_path, kind):
    path, trace = tmp_path / "x.ckpt", tmp_path / "trace"
    content = {"state_dict": {"a": torch.zeros(2)}, "callback": Harmful(trace)}
    if kind == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError, match=r"x\.ckpt is a pickle that .*; it was not opened") as caught:
        open_pickle(path)
    assert not trace.exists() and "\n" not in str(caught.value)
    if kind != "plain":
        assert "would run code" in str(caught.value)


def test_objects_of_the_training_loop_are_left_out(tmp_path, monkeypatch):
    """As in the checkpoints that Stable Diffusion was published in; the package that made them is not needed."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    checkpoint_class = type("ModelCheckpoint", (), {"__module__": name})
    sys.modules[name].ModelCheckpoint = checkpoint_class
    state = checkpoint_class()
    state.best = 1.0
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": {checkpoint_class: state}}, tmp_path / "x.ckpt")
    monkeypatch.undo()
    assert open_pickle(tmp_path / "x.ckpt")["a"].read().tolist() == [1, 1]


@pytest.mark.parametrize("is_zip", [True, False])
def test_numbers_of_numpy_are_left_out(tmp_path, is_zip):
    """As old training loops keep their best loss."""
    content = {"state_dict": {"a": torch.ones(2)}, "best": np.float64(0.5), "losses": np.arange(3.0)}
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=is_zip)
    assert open_pickle(tmp_path / "x.ckpt")["a"].read().tolist() == [1, 1]


@pytest.mark.parametrize("is_zip", [True, False])
def test_damaged_pickles(tmp_path, is_zip):
    """Cut off anywhere, and with flipped bits: one line, whatever the unpickler makes of it."""
    path = tmp_path / "x.ckpt"
    torch.save({"a": torch.ones(200), "b": torch.zeros(3)}, path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in rng.integers(1, len(whole), 40)]
    for place in rng.integers(0, min(len(whole), 600), 40):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        try:
            opened = open_pickle(path)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            # Bits of the numbers, or of what nobody reads.
            assert opened


def test_what_numpy_does_not_have(tmp_path):
    torch.save({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: a is torch\.strided of torch\.float8_e4m3fn"):
        open_pickle(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive"])
def test_what_is_no_pickle(tmp_path, content):
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.bin is (not a readable PyTorch file|a pickle that)"):
        open_pickle(path)


def test_a_pickle_without_tensors(tmp_path):
    torch.save({"state_dict": {"a": 3}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="holds no dictionary of tensors"):
        open_pickle(tmp_path / "x.pt")


def test_torch_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"needs torch to read: pip install torch, or give safetensors"):
        open_pickle(tmp_path / "x.ckpt")
