"""Files of FLAME's layout with random numbers in them, since FLAME's own may not be passed on."""

import io
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import scipy.sparse

VERTICES, TRIANGLES = 5023, 9976
EYES = {"left": (3931, 0.0315), "right": (4477, -0.0315)}  # first vertex, x of the centre


def random_flame(seed: int = 0, identity: int = 300, expression: int = 100) -> dict:
    """The arrays of a model file by their names: an ellipsoid of a head's size in metres, and two eyeballs."""
    rng = np.random.default_rng(seed)
    template = _sphere(rng, VERTICES) * [0.08, 0.12, 0.1]
    owner = np.repeat([3931, 546, 546], [8000, 988, 988])
    first = np.repeat([0, 3931, 4477], [8000, 988, 988])
    triangles = first[:, None] + (rng.random((TRIANGLES, 3)) * owner[:, None]).astype(int)
    regressor = np.zeros((5, VERTICES))
    for joint in range(3):
        regressor[joint, rng.choice(3931, 20, replace=False)] = rng.dirichlet(np.ones(20))
    skinning = rng.dirichlet(np.ones(5), VERTICES)
    for joint, (start, x) in zip((3, 4), EYES.values(), strict=True):
        skinning[start : start + 546] = np.eye(5)[joint]
        half = _sphere(rng, 273)
        half[120] = [0, 0, 1]
        # Points and their opposites, so that their mean is the centre.
        template[start : start + 546] = np.concatenate([half, -half]) * 0.0135 + [x, 0.03, 0.07]
        regressor[joint, start : start + 546] = 1 / 546
    return {
        "v_template": template,
        "shapedirs": rng.normal(0, 3e-4, (VERTICES, 3, identity + expression)).astype(np.float32),
        "posedirs": rng.normal(0, 1e-3, (VERTICES, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": skinning,
        "f": triangles.astype(np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def _sphere(rng, count: int) -> np.ndarray:
    points = rng.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def random_embeddings(seed: int = 0) -> dict:
    """A landmark embedding under DECA's names."""
    rng = np.random.default_rng(seed)

    def points(*shape) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, TRIANGLES, shape), rng.dirichlet(np.ones(3), shape)

    names = {"static": (51,), "dynamic": (79, 17), "full": (1, 68)}
    pairs = {name: points(*shape) for name, shape in names.items()}
    faces = {f"{name}_lmk_faces_idx": faces for name, (faces, _) in pairs.items()}
    return faces | {f"{name}_lmk_bary_coords": weights for name, (_, weights) in pairs.items()}


def write_smplx(folder: Path, arrays: dict, embedding: dict) -> Path:
    """The three files that smplx reads, of plain arrays; returns the model's."""
    path = folder / "FLAME_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=2))
    static = {"lmk_face_idx": embedding["static_lmk_faces_idx"], "lmk_b_coords": embedding["static_lmk_bary_coords"]}
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static, protocol=2))
    dynamic = {"lmk_face_idx": embedding["dynamic_lmk_faces_idx"], "lmk_b_coords": embedding["dynamic_lmk_bary_coords"]}
    np.save(folder / "flame_dynamic_embedding.npy", dynamic)
    return path


def as_downloaded(arrays: dict) -> bytes:
    """The pickle as FLAME's makers wrote it: by Python 2, with chumpy's arrays and SciPy's of that time."""
    sparse = arrays["J_regressor"]
    chumpy, old_scipy = types.ModuleType("chumpy.ch"), types.ModuleType("scipy.sparse.csc")
    modules = {"chumpy": types.ModuleType("chumpy"), "chumpy.ch": chumpy, "scipy.sparse.csc": old_scipy}
    Ch = chumpy.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    Csc = old_scipy.csc_matrix = type("csc_matrix", (), {"__module__": "scipy.sparse.csc"})

    def ch(array: np.ndarray) -> object:
        made = Ch()
        made.__dict__ |= {"x": np.asarray(array, np.float64), "_dirty_vars": {"x"}, "_itr": None}
        made.__dict__ |= {"_depends_on_deps": {}, "_make_dense": False}
        return made

    regressor = Csc()
    regressor.__dict__ |= {"_shape": sparse.shape, "maxprint": 50, "indices": sparse.indices}
    regressor.__dict__ |= {"indptr": sparse.indptr, "data": sparse.data, "format": "csc"}
    content = arrays | {"J_regressor": regressor, "shapedirs": ch(arrays["shapedirs"]), "bs_style": "lbs"}
    file = io.BytesIO()
    kept = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        _Python2Pickler(file, protocol=2).dump(content)
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return file.getvalue()


class _Python2Pickler(pickle._Pickler):
    """Writes texts and bytes alike as Python 2's strings, and NumPy's names of that time."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text):
        raw = text if isinstance(text, bytes) else text.encode("ascii")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(text)

    dispatch[bytes] = save_string
    dispatch[str] = save_string

    def save_global(self, obj, name=None):
        module = getattr(obj, "__module__", "")
        if module and module.startswith("numpy._core"):
            self.write(f"c{module.replace('_core', 'core')}\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[types.FunctionType] = save_global
    dispatch[types.BuiltinFunctionType] = save_global
    dispatch[type] = pickle._Pickler.save_type
