"""A model and a tracked head for all importers."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from flame_factory import random_embeddings, random_flame, write_smplx

from svp_jax.face.importers.imported import Imported
from svp_jax.face.morphable.embedding import at_vertices
from svp_jax.face.morphable.flame import Flame, load_flame
from svp_jax.face.morphable.parameters import FaceParameters

vertices_of = jax.jit(Flame.vertices)


@dataclass(frozen=True)
class Tracked:
    """What a tool found: a head in B frames, and FLAME's vertices [B, V, 3] of it with translation 0."""

    model: Flame
    parameters: FaceParameters
    vertices: np.ndarray

    def check(self, imported: Imported, expected: np.ndarray, within: float) -> None:
        """`expected` pixels [B, V, 2], as the tool's own formula gives them, against ours."""
        ours = imported.camera.project(vertices_of(self.model, imported.parameters))
        np.testing.assert_allclose(ours[..., :2], expected, atol=within, rtol=0)
        assert (np.asarray(ours[..., 2]) > 0).all()


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Flame:
    folder = tmp_path_factory.mktemp("flame")
    return load_flame(write_smplx(folder, random_flame(identity=100, expression=50), random_embeddings()))


@pytest.fixture(scope="session")
def model(whole) -> Flame:
    """Some vertices suffice to tell where a head is; the outermost are among them."""
    extremes = np.concatenate([whole.template.argmin(0), whole.template.argmax(0)])
    return whole.restricted(at_vertices(np.concatenate([extremes, np.arange(0, 5023, 20)])))


@pytest.fixture(scope="session")
def tracked(model) -> Tracked:
    rng = np.random.default_rng(0)
    frames = 6

    def normal(scale: float, *shape) -> np.ndarray:
        return rng.normal(0, scale, shape).astype(np.float32)

    parameters = FaceParameters(
        identity=normal(1, 100),
        expression=normal(1, frames, 50),
        jaw=normal(0.1, frames, 3),
        neck=np.zeros((frames, 3), np.float32),
        eyes=np.zeros((frames, 2, 3), np.float32),
        rotation=normal(0.3, frames, 3),
        translation=np.zeros((frames, 3), np.float32),
    )
    return Tracked(model, parameters, np.asarray(vertices_of(model, parameters), np.float64))
