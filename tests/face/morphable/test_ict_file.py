"""Files of the ICT model that are whole, and those that are refused, in one line that says what to do."""

import os
import zipfile

import numpy as np
import pytest
from ict_factory import RANGES, random_ict, write_ict

from svp_jax.errors import UserError
from svp_jax.face.morphable.ict import load_ict
from svp_jax.face.morphable.ict_file import PARTS, read_npz
from svp_jax.face.morphable.model import PART_INDEX

FILE = "ict_face_model.npz"


@pytest.fixture(scope="module")
def arrays():
    return random_ict()


@pytest.fixture
def path(arrays, tmp_path):
    return write_ict(tmp_path / FILE, arrays)


def refused(path) -> str:
    """What is said after the file's name."""
    with pytest.raises(UserError) as caught:
        load_ict(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.isprintable()
    assert any(advice in message for advice in (f"get {FILE} again", f"give {FILE}", "download or save it again"))
    return message.removeprefix(str(path))


def changed(array: np.ndarray, place, value) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


def test_what_is_read_is_what_was_written(path, arrays):
    found = read_npz(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, name)
        assert found[name].dtype == array.dtype


def test_half_precision_and_other_arrays_are_allowed(arrays, tmp_path):
    half = {name: arrays[name].astype(np.float16) for name in ("identity", "expression")}
    wide = {"landmarks68": arrays["landmarks68"].astype(np.int64), "licence": np.array("MIT\n")}
    model = load_ict(write_ict(tmp_path / FILE, arrays | half | wide))
    head = slice(0, RANGES["eyeball_left"][0])
    # 11 bits of numbers around 1.
    np.testing.assert_allclose(model.expression_basis[:, head], arrays["expression"][:, head], atol=1e-3)
    assert model.expression_basis.dtype == model.identity_basis.dtype == np.float32


def test_parts_are_those_of_all_models():
    assert {*PARTS.values()} == {*PART_INDEX}


def test_the_real_file_is_whole(ict_file):
    found = read_npz(ict_file)
    assert found["identity"].shape == (100, 24591, 3) and found["faces"].shape == (48836, 3)


def test_a_truncated_file(path):
    content = path.read_bytes()
    for kept in (0, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        assert " is not a readable .npz file (" in refused(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_a_damaged_member(path, arrays, compression, place):
    """Zeros in the place of 40 of an array's bytes: BadZipFile, zlib.error or a broken header, as it falls."""
    (np.savez if compression == zipfile.ZIP_STORED else np.savez_compressed)(path, **arrays)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("identity.npy")
    content = bytearray(path.read_bytes())
    # Each member's bytes come after 30 bytes and its name, and fields of up to 20 bytes for sizes beyond 4 GB.
    start = member.header_offset + 30 + len("identity.npy") + 20 + int(place * (member.compress_size - 60))
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    assert " is not a readable .npz file (" in refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", b"\x93NUMPY\x01\x00v\x00{'descr'"], ids=["empty", "text", "npy"]
)
def test_files_of_something_else(path, content):
    path.write_bytes(content)
    assert " is not a readable .npz file (" in refused(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.npz cannot be read \(No such file or directory\); check the path"):
        read_npz(tmp_path / "none.npz")


class Runs:
    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_pickles_are_not_run(arrays, tmp_path):
    marker = tmp_path / "was run"
    path = write_ict(tmp_path / FILE, arrays | {"neutral": np.array([Runs(str(marker))], object)})
    with pytest.raises(UserError, match=r"asks for posix\.mkdir, which could run code; it was not opened"):
        load_ict(path)
    assert not marker.exists()


def test_arrays_of_objects(arrays, tmp_path):
    for value in (np.array([{"a": 1}], object), np.array([1, "x"], object)):
        message = refused(write_ict(tmp_path / FILE, arrays | {"neutral": value}))
        assert ": neutral holds " in message and ", expected floating point numbers" in message


@pytest.mark.parametrize("name", random_ict())
def test_a_missing_array(arrays, tmp_path, name):
    rest = {key: array for key, array in arrays.items() if key != name}
    message = refused(write_ict(tmp_path / FILE, rest))
    assert message == f": has no array {name!r}, so it is no ICT face model; give {FILE}"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("neutral", lambda a: a[:, :2], "neutral has the shape [306, 2], expected [n, 3]"),
        ("neutral", lambda a: a.ravel(), "neutral has the shape [918], expected [n, 3]"),
        ("neutral", lambda a: a[:0], "neutral is empty"),
        ("identity", lambda a: a[:, 1:], "identity has the shape [4, 305, 3], expected [n, 306, 3]"),
        ("expression", lambda a: a[:, :, None], "expression has the shape [3, 306, 1, 3], expected [n, 306, 3]"),
        ("expression_names", lambda a: a[1:], "expression_names has the shape [2], expected [3]"),
        ("faces", lambda a: np.hstack([a, a[:, :1]]), "faces has the shape [288, 4], expected [n, 3]"),
        ("face_part", lambda a: a[1:], "face_part has the shape [287], expected [288]"),
        ("part_vertex_ranges", lambda a: a[1:], "part_vertex_ranges has the shape [8, 2], expected [9, 2]"),
        ("subpart_vertex_ranges", lambda a: a[1:], "subpart_vertex_ranges has the shape [4, 2], expected [5, 2]"),
        ("landmarks68", lambda a: a[1:], "landmarks68 has the shape [67], expected [68]"),
        ("neutral", lambda a: a.astype(int), "neutral holds int64, expected floating point numbers"),
        ("identity", lambda a: a.astype(str), "identity holds <U32, expected floating point numbers"),
        ("expression", lambda a: a.astype(complex), "expression holds complex128, expected floating point numbers"),
        ("faces", lambda a: a.astype(np.float32), "faces holds float32, expected integers"),
        ("landmarks68", lambda a: a > 0, "landmarks68 holds bool, expected integers"),
        ("part_names", lambda a: a.astype(bytes), "part_names holds |S16, expected texts"),
        ("neutral", lambda a: changed(a, (3, 1), np.nan), "neutral holds numbers that are not finite"),
        ("identity", lambda a: changed(a, (1, 7, 0), np.inf), "identity holds numbers that are not finite"),
        ("expression", lambda a: changed(a, (0, 0, 2), -np.inf), "expression holds numbers that are not finite"),
        ("faces", lambda a: changed(a, (0, 0), 306), "faces has numbers from 1 to 306, allowed are 0 to 305"),
        ("faces", lambda a: changed(a, (9, 2), -1), "faces has numbers from -1 to 305, allowed are 0 to 305"),
        ("face_part", lambda a: changed(a, 5, 9), "face_part has numbers from 0 to 9, allowed are 0 to 8"),
        ("landmarks68", lambda a: changed(a, 67, 306), "to 306, allowed are 0 to 305"),
        ("landmarks68", lambda a: changed(a, 0, -1), "landmarks68 has numbers from -1 to"),
        ("part_names", lambda a: changed(a, 6, "horns"), "part_names has 'horns', known are face, head_and_neck,"),
        ("part_names", lambda a: changed(a, 8, "eyeball_left"), "part_names lacks 'eyeball_right'"),
        ("subpart_names", lambda a: changed(a, 1, "other"), "subpart_names lacks 'sclera_left'"),
        ("part_vertex_ranges", lambda a: changed(a, (8, 1), 307), "214 to 307 for 'eyeball_right', allowed are"),
        ("part_vertex_ranges", lambda a: changed(a, (0, 0), -1), "-1 to 80 for 'face', allowed are ranges within 0 to"),
        ("subpart_vertex_ranges", lambda a: changed(a, 1, (9, 9)), "9 to 9 for 'sclera_left', allowed are ranges with"),
    ],
)
def test_arrays_that_do_not_fit(arrays, tmp_path, name, change, message):
    found = refused(write_ict(tmp_path / FILE, arrays | {name: change(arrays[name])}))
    assert message in found and found.startswith(": ")
