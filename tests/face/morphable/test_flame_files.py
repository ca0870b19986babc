"""FLAME's files in all forms in which they are downloaded, and what is refused."""

import pickle
import sys

import numpy as np
import pytest
from flame_factory import as_downloaded, random_flame

from svp_jax.errors import UserError
from svp_jax.face.morphable.flame_files import read_flame


@pytest.fixture(scope="module")
def arrays():
    # A shortened file, of 100 shape and 50 expression weights.
    return random_flame(identity=100, expression=50)


def check(found, arrays):
    np.testing.assert_array_equal(found.template, arrays["v_template"])
    np.testing.assert_array_equal(found.identity, arrays["shapedirs"][..., :100])
    np.testing.assert_array_equal(found.expression, arrays["shapedirs"][..., 100:])
    np.testing.assert_array_equal(found.pose, arrays["posedirs"])
    np.testing.assert_array_equal(found.regressor, arrays["J_regressor"].toarray())
    np.testing.assert_array_equal(found.skinning, arrays["weights"])
    np.testing.assert_array_equal(found.triangles, arrays["f"])


def test_python_2_s_pickle_with_chumpy(arrays, tmp_path):
    raw = as_downloaded(arrays)
    assert b"cchumpy.ch\nCh\n" in raw and b"cscipy.sparse.csc\ncsc_matrix\n" in raw and b"cnumpy.core" in raw
    (tmp_path / "generic_model.pkl").write_bytes(raw)
    assert not any(name.startswith("chumpy") for name in sys.modules)
    check(read_flame(tmp_path / "generic_model.pkl"), arrays)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_python_3_s_pickles(arrays, tmp_path, protocol):
    (tmp_path / "flame2023.pkl").write_bytes(pickle.dumps(arrays, protocol))
    check(read_flame(tmp_path / "flame2023.pkl"), arrays)


def test_npz(arrays, tmp_path):
    np.savez(tmp_path / "dense.npz", **(arrays | {"J_regressor": arrays["J_regressor"].toarray()}))
    check(read_flame(tmp_path / "dense.npz"), arrays)
    np.savez(tmp_path / "sparse.npz", **(arrays | {"J_regressor": np.array(arrays["J_regressor"], object)}))
    check(read_flame(tmp_path / "sparse.npz"), arrays)


def test_sizes_of_the_whole_file(arrays, tmp_path):
    whole = arrays | {"shapedirs": np.zeros((5023, 3, 400), np.float32)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(whole))
    found = read_flame(tmp_path / "x.pkl")
    assert found.identity.shape[2] == 300 and found.expression.shape[2] == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_template": np.zeros((6890, 3))}, "has 6890 vertices, so it is SMPL; give FLAME 2020 or 2023"),
        ({"v_template": np.zeros((3931, 3))}, "has 3931 vertices, so it is another model; give FLAME"),
        ({"v_template": np.zeros(5023)}, r"v_template has the shape \[5023\], FLAME's is \[n, 3\]"),
        ({"shapedirs": np.zeros((5023, 3, 10))}, "shapedirs has 10 columns; FLAME's files have 400"),
        ({"posedirs": np.zeros((5023, 3, 207))}, r"posedirs has the shape \[5023, 3, 207\]"),
        ({"weights": None}, "weights is no array of numbers|weights has the shape"),
        ({"kintree_table": np.array([[0, 0, 0, 1, 1], [0, 1, 2, 3, 4]])}, "kintree_table hangs the joints on"),
        ({"f": np.full((9976, 3), 5023)}, "f names vertices beyond the 5023"),
        ({"J_regressor": np.full((5, 5023), np.nan)}, "J_regressor holds numbers that are not finite"),
    ],
)
def test_models_that_do_not_fit(arrays, tmp_path, change, message):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(arrays | change))
    with pytest.raises(UserError, match=message) as caught:
        read_flame(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f"])
def test_a_missing_array(arrays, tmp_path, name):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({key: arrays[key] for key in arrays if key != name}))
    with pytest.raises(UserError, match=rf"lacks {name}; download FLAME again"):
        read_flame(tmp_path / "model.pkl")


def test_files_of_something_else(arrays, tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="is no FLAME model"):
        read_flame(tmp_path / "model.pkl")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(arrays)[:-1000])
    with pytest.raises(UserError, match="is not a readable pickle"):
        read_flame(tmp_path / "model.pkl")
    with pytest.raises(UserError, match="cannot be read"):
        read_flame(tmp_path / "none.pkl")
