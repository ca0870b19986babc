"""Pickles of arrays: what writers of all times wrote, and that none of them runs code."""

import codecs
import collections
import io
import os
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse

from svp_jax.errors import UserError
from svp_jax.face.pickles import load_npy, load_npz, load_pickle, load_pickles, load_torch


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return {
        "floats": rng.normal(size=(3, 4)),
        "columns": np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32)),
        "big endian": np.arange(5, dtype=">i4"),
        "unsigned": np.arange(5, dtype=np.uint16),
        "bools": np.array([True, False]),
        "texts": np.array(["a", "bcd"]),
        "none": np.zeros((0, 3)),
        "single": np.array(2.5),
        "scalar": np.float32(1.5),
        "objects": np.array([{"a": np.arange(2)}, None], object),
        "list": [1, (2.5, "text"), {"k": b"\x00\xff"}],
        "ordered": collections.OrderedDict(a=1),
        "path": pathlib.PurePosixPath("a/b"),
    }


def equal(found, expected):
    assert type(found) is type(expected) or isinstance(expected, collections.OrderedDict | np.generic)
    if isinstance(expected, np.ndarray) and expected.dtype != object:
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype.newbyteorder("=")
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            equal(found[key], value)
    elif isinstance(expected, list | tuple | np.ndarray):
        for ours, theirs in zip(found, expected, strict=True):
            equal(ours, theirs)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers(content, tmp_path, protocol):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    expected = content | {"path": "a/b"}
    equal(load_pickle(tmp_path / "x.pkl"), expected)


@pytest.mark.parametrize("kind", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_sparse_matrices(tmp_path, kind):
    dense = np.random.default_rng(0).normal(size=(4, 6)) * (np.arange(24).reshape(4, 6) % 3 == 0)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(kind(dense), 2))
    np.testing.assert_array_equal(load_pickle(tmp_path / "x.pkl"), dense)


def test_elements_that_are_named_twice_add_up(tmp_path):
    matrix = scipy.sparse.csr_matrix(([1.0, 2.0], [1, 1], [0, 2, 2]), shape=(2, 3))
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(matrix, 2))
    np.testing.assert_array_equal(load_pickle(tmp_path / "x.pkl"), [[0, 3, 0], [0, 0, 0]])


@pytest.mark.parametrize("part", [{"indptr": np.array([0, 9, 9])}, {"_shape": (5, 3)}, {"data": np.ones(1)}])
def test_sparse_matrices_that_do_not_fit(tmp_path, part):
    matrix = scipy.sparse.csr_matrix(np.eye(2, 3))
    matrix.__dict__ |= part
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(matrix, 2))
    with pytest.raises(UserError, match="holds a sparse matrix whose parts do not fit"):
        load_pickle(tmp_path / "x.pkl")


def test_names_in_messages_are_one_line(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04\x8c\x03a\nb\x8c\x03c\x07d\x93.")
    with pytest.raises(UserError, match=r"asks for a b\.c d, which could run code"):
        load_pickle(tmp_path / "x.pkl")


def test_chumpy(tmp_path, monkeypatch):
    """An array, and elements of it as MANO's and SMPL's files select them."""
    classes = {"Ch": "chumpy.ch", "Select": "chumpy.reordering"}
    made = {name: type(name, (), {"__module__": module}) for name, module in classes.items()}
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for name, module in classes.items():
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: made[name]}))
    whole, part = made["Ch"](), made["Select"]()
    whole.__dict__ |= {"x": np.arange(6.0).reshape(2, 3), "_dirty_vars": {"x"}}
    part.__dict__ |= {"a": whole, "idxs": np.array([4, 1]), "preferred_shape": (2, 1)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([whole, part], 2))
    found = load_pickle(tmp_path / "x.pkl")
    np.testing.assert_array_equal(found[0], whole.x)
    np.testing.assert_array_equal(found[1], [[4.0], [1.0]])


def test_several_pickles_in_a_file(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"".join(pickle.dumps(item) for item in ([1], {"a": np.arange(2)}, 3)))
    found = load_pickles(tmp_path / "x.pkl")
    assert found[0] == [1] and found[2] == 3
    np.testing.assert_array_equal(found[1]["a"], [0, 1])


def test_files_of_numpy(content, tmp_path):
    np.save(tmp_path / "object.npy", content)
    equal(load_npy(tmp_path / "object.npy"), content | {"path": "a/b"})
    np.save(tmp_path / "plain.npy", content["floats"])
    np.testing.assert_array_equal(load_npy(tmp_path / "plain.npy"), content["floats"])
    np.savez(tmp_path / "x.npz", floats=content["floats"], dictionary=content["list"][2], texts=content["texts"])
    found = load_npz(tmp_path / "x.npz")
    assert list(found) == ["floats", "dictionary", "texts"] and found["dictionary"] == {"k": b"\x00\xff"}
    equal(found["texts"], content["texts"])


def test_files_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    given = {"array": np.arange(3.0), "tensor": torch.arange(12).reshape(3, 4).T[1:], "flag": torch.tensor([True])}
    torch.save(given, tmp_path / "x.frame")
    found = load_torch(tmp_path / "x.frame")
    # Without torch.save a tensor's numbers are within the pickle, in PyTorch's older format.
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(given, 2))
    for read in (found, load_pickle(tmp_path / "x.pkl")):
        for name, value in given.items():
            np.testing.assert_array_equal(read[name], np.asarray(value))
            assert read[name].dtype == np.asarray(value).dtype


class Runs:
    """Pickles into a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def evil(marker) -> dict[str, bytes]:
    """Pickles that make the folder `marker` when they are read with pickle.load, as one of them is to prove."""
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(Runs(os.mkdir, str(marker)), file)
    return {
        "call": pickle.dumps(Runs(os.mkdir, str(marker))),
        "oldest protocol": pickle.dumps(Runs(os.mkdir, str(marker)), 0),
        "within": pickle.dumps({"v_template": [np.zeros(3), Runs(os.mkdir, str(marker))]}, 2),
        "eval": pickle.dumps(Runs(eval, f"__import__('os').mkdir({str(marker)!r})")),
        "tensor bytes": pickle.dumps(Runs(torch.storage._load_from_bytes, file.getvalue())),
        "loads": pickle.dumps(Runs(pickle.loads, pickle.dumps(Runs(os.mkdir, str(marker))))),
    }


@pytest.mark.parametrize("name", ["call", "oldest protocol", "within", "eval", "tensor bytes", "loads"])
def test_no_pickle_runs(tmp_path, name):
    marker = tmp_path / "it ran"
    raw = evil(marker)[name]
    (tmp_path / "x.pkl").write_bytes(raw)
    with pytest.raises(
        UserError, match=r"x\.pkl (asks for .*, which could run code|is not a readable pickle)"
    ) as caught:
        load_pickle(tmp_path / "x.pkl")
    assert "\n" not in str(caught.value) and not marker.exists()
    if name != "tensor bytes":
        pickle.loads(raw)
        assert marker.exists()


def test_files_around_pickles_do_not_run_either(tmp_path):
    torch = pytest.importorskip("torch")
    marker = tmp_path / "it ran"
    np.save(tmp_path / "x.npy", np.array(Runs(os.mkdir, str(marker)), object))
    np.savez(tmp_path / "x.npz", a=np.array([Runs(os.mkdir, str(marker))], object))
    torch.save({"a": Runs(os.mkdir, str(marker))}, tmp_path / "x.frame")
    for path, load in (
        (tmp_path / "x.npy", load_npy),
        (tmp_path / "x.npz", load_npz),
        (tmp_path / "x.frame", load_torch),
    ):
        with pytest.raises(UserError, match=r"asks for posix\.mkdir, which could run code"):
            load(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "what",
    [
        Runs(codecs.encode, "a", "rot13"),
        np.zeros(2, [("a", "f4"), ("b", "i4")]),
        np.array(["2020-01-01"], "datetime64[D]"),
        object(),
        scipy.sparse.coo_matrix(np.eye(2)),
        print,
    ],
    ids=["codec", "structured", "dates", "object", "other sparse", "function"],
)
def test_what_is_not_needed_is_refused(tmp_path, what):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(what, 2))
    with pytest.raises(UserError, match=r"it was not opened, give the file as its makers wrote it") as caught:
        load_pickle(tmp_path / "x.pkl")
    assert "\n" not in str(caught.value)


def test_stand_ins_cannot_be_changed(tmp_path):
    """A pickle may give a class or function a state; that must not change the reader for the next file."""
    good = pickle.dumps(np.arange(3), 2)
    for name in (
        b"cnumpy\nndarray\n",
        b"ctorch.storage\n_load_from_bytes\n",
        b"c_codecs\nencode\n",
        b"c__builtin__\nset\n",
    ):
        (tmp_path / "x.pkl").write_bytes(b"\x80\x02" + name + b"N}U\x07__new__K\x01s\x86b.")
        with pytest.raises(UserError, match="not a readable pickle"):
            load_pickle(tmp_path / "x.pkl")
        (tmp_path / "good.pkl").write_bytes(good)
        np.testing.assert_array_equal(load_pickle(tmp_path / "good.pkl"), [0, 1, 2])


@pytest.mark.parametrize("keep", [0, 1, 20, 100])
def test_damaged_files(content, tmp_path, keep):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content)[:keep])
    with pytest.raises(UserError, match=r"x\.pkl is not a readable pickle \(.+\); download or save it again") as caught:
        load_pickle(tmp_path / "x.pkl")
    assert "\n" not in str(caught.value)
    for load in (load_npy, load_npz, load_torch):
        with pytest.raises(UserError, match="is not a readable"):
            load(tmp_path / "x.pkl")
    with pytest.raises(UserError, match=r"cannot be read .*; check the path"):
        load_pickle(tmp_path / "none.pkl")


def test_a_tensor_beyond_its_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    raw = pickle.dumps(torch.arange(3), 2)
    # The shape (3,) becomes (9,).
    assert raw.count(b"K\x03\x85") == 1
    (tmp_path / "x.pkl").write_bytes(raw.replace(b"K\x03\x85", b"K\x09\x85"))
    with pytest.raises(UserError, match="reaches beyond its numbers"):
        load_pickle(tmp_path / "x.pkl")
