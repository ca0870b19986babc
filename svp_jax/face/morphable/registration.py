"""Where MediaPipe's landmarks lie on a face model: its canonical face, bent onto the model's.

Most of the 68 Multi-PIE points are known on both. A thin-plate spline through them carries the other points of the
canonical face near the model's skin, and the nearest place on the skin that faces the same way is the landmark's.
"""

import numpy as np

from svp_jax.face.mediapipe_mesh import triangles as mediapipe_triangles
from svp_jax.face.morphable.embedding import Embedding, joined
from svp_jax.face.morphable.model import PART_INDEX, FaceModel
from svp_jax.face.morphable.multi_pie import CHIN, FROM_MEDIAPIPE, INNER, IRISES
from svp_jax.face.morphable.parameters import neutral
from svp_jax.face.rasterizer import vertex_normals

_TRIED = 48  # Triangles.
_TINY = 1e-100  # So that triangles without area divide 0 by something.


def mediapipe_embedding(model: FaceModel, canonical: np.ndarray) -> Embedding:
    """The 478 landmarks on `model`; of each iris all five points are its centre.

    Args:
        canonical: [468, 3], see `canonical_mesh.canonical_face`.
    """
    vertices = np.asarray(model.vertices(neutral(model.identity_size, len(model.channels))))[0].astype(np.float64)
    # Of the jaw only the chin: where along it the others lie, annotators and MediaPipe see differently.
    same = [*range(INNER.start, INNER.stop), CHIN]
    known = np.asarray(model.landmarks.points(vertices))[same]
    bent = thin_plate_spline(canonical[np.array(FROM_MEDIAPIPE)[same]], known, canonical)
    skin = model.triangles[model.parts == PART_INDEX["skin"]]
    facing = vertex_normals(bent, mediapipe_triangles()[(mediapipe_triangles() < len(bent)).all(axis=1)])
    surface = nearest_on_mesh(bent, facing, vertices, skin)
    irises = [model.landmarks.taken(np.full(5, index)) for index in range(IRISES.start, IRISES.stop)]
    return joined(surface, *irises)


def thin_plate_spline(source: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` [n, 3] moved by the smoothest map that carries `source` [k, 3] to `target` [k, 3].

    Bookstein 1989; in three dimensions the kernel is the distance itself.
    """

    def affine(p: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones((len(p), 1)), p], axis=1)

    def distances(p: np.ndarray) -> np.ndarray:
        return np.linalg.norm(p[:, None] - source, axis=-1)

    system = np.block([[distances(source), affine(source)], [affine(source).T, np.zeros((4, 4))]])
    weights = np.linalg.solve(system, np.concatenate([target, np.zeros((4, 3))]))
    return distances(points) @ weights[: len(source)] + affine(points) @ weights[len(source) :]


def nearest_on_mesh(points: np.ndarray, facing: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> Embedding:
    """The nearest places on a mesh to `points` [n, 3], among triangles that face as `facing` [n, 3] does.

    Of the triangles, those with the nearest middles are tried: meshes whose triangles are of a size.
    """
    corners = vertices[triangles]
    middles = corners.mean(axis=1)
    count = min(_TRIED, len(triangles))
    squares = (points**2).sum(1)[:, None] + (middles**2).sum(1) - 2 * points @ middles.T
    tried = np.argpartition(squares, count - 1, axis=1)[:, :count]
    a, b, c = np.moveaxis(corners[tried], 2, 0)
    places = _barycentric_nearest(points[:, None], a, b, c)
    found = (places[..., None] * corners[tried]).sum(axis=2)
    distance = np.linalg.norm(found - points[:, None], axis=-1)
    alike = (np.cross(b - a, c - a) * facing[:, None]).sum(-1) > 0
    best = np.where(alike, distance, distance + 1e6).argmin(axis=1)[:, None]
    chosen = np.take_along_axis(tried, best, axis=1)[:, 0]
    weights = np.take_along_axis(places, best[..., None], axis=1)[:, 0]
    return Embedding(triangles[chosen].astype(np.int32), weights.astype(np.float32))


def _barycentric_nearest(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Barycentric coordinates [..., 3] of the place on each triangle a, b, c [..., 3] that is nearest to `points`."""
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    # Against the triangle's own size: in metres, the square of a small one's area is less than 1e-12.
    area = np.maximum(uu * vv - uv**2, 1e-12 * uu * vv + _TINY)
    one, two = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    candidates = [np.stack([1 - one - two, one, two], axis=-1)]
    # Where it projects outside, the nearest place lies on one of the edges.
    ends = (a, b, c)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        along = ends[second] - ends[first]
        length = np.maximum((along**2).sum(-1), _TINY)
        t = np.clip(((points - ends[first]) * along).sum(-1) / length, 0, 1)
        place = np.zeros((*t.shape, 3))
        place[..., first], place[..., second] = 1 - t, t
        candidates.append(place)
    stacked = np.stack(candidates)
    found = (stacked[..., None] * np.stack(ends, axis=-2)).sum(axis=-2)
    distance = np.linalg.norm(found - points, axis=-1)
    distance[0] = np.where((stacked[0] >= 0).all(axis=-1), distance[0], np.inf)
    return np.take_along_axis(stacked, distance.argmin(axis=0)[None, ..., None], axis=0)[0]
