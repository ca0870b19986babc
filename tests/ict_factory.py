"""A small model of the layout of ict_face_model.npz, with random numbers where the truth does not matter."""

from pathlib import Path

import numpy as np

from svp_jax.face.morphable.rotation import from_angles

SIZES = {
    "face": 80,
    "head_and_neck": 9,
    "mouth_socket": 8,
    "eye_socket_left": 7,
    "eye_socket_right": 7,
    "gums_and_tongue": 6,
    "teeth": 5,
    "eyeball_left": 92,
    "eyeball_right": 92,
}
_STARTS = dict(zip(SIZES, np.cumsum([0, *SIZES.values()]), strict=False))
RANGES = {name: (int(_STARTS[name]), int(_STARTS[name]) + size) for name, size in SIZES.items()}
_SCLERA = 80  # Vertices; the rest of an eyeball is its iris.
CENTRES = {"right": np.array([-3.0, 3.5, 8.0]), "left": np.array([3.0, 3.5, 8.0])}
RADIUS = 1.5
OUTWARDS = 5.0  # Degrees, by which the eyeballs of the neutral face look aside.
NAMES = ("jawOpen", "eyeBlink_L", "PupilDilate_R")
# What the last of them does to the right eyeball, in the directions of `eyeball`; the others do nothing to either.
DILATION = np.array([0.1, 0.1, 0])
# What each of the four identities does to each eyeball: moves it [cm], scales it, turns it [radians about x, y, z].
MOVES = np.array([[0.1, 0, 0], [0, 0.2, -0.1], [0, 0, 0], [0.05, 0.05, 0.05]])
SCALES = np.array([0.0, 0.03, -0.02, 0.01])
TURNS = np.array([[0, 0, 0], [0.05, 0, 0], [0, 0.06, 0], [-0.02, 0.03, 0.04]])


def eyeball() -> np.ndarray:
    """[92, 3], about its centre, looking along z: a sphere, whose first vertex is the pupil's middle, and a disc.

    Its rings are as far apart in angle everywhere, so vertices are denser along its axis, as in the model.
    """
    angle, around = np.meshgrid(np.linspace(0, np.pi, 8), np.arange(10) * np.pi / 5, indexing="ij")
    sphere = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], -1)
    sphere = sphere.reshape(_SCLERA, 3)
    disc = sphere[10:20] * [0.8, 0.8, 0.7]
    return RADIUS * np.concatenate([sphere, disc, disc[:2] * 0.9])


def random_ict(seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a model file by their names."""
    rng = np.random.default_rng(seed)
    count = sum(SIZES.values())
    neutral = rng.normal(0, 5, (count, 3))
    identity = rng.normal(0, 0.3, (len(MOVES), count, 3))
    expression = rng.normal(0, 0.3, (len(NAMES), count, 3))
    subparts = {"narrow_face": (0, 50)}
    for side, outwards in (("left", OUTWARDS), ("right", -OUTWARDS)):
        start, stop = RANGES[f"eyeball_{side}"]
        looking = from_angles(outwards, 0, 0)
        away = eyeball() @ looking.T
        neutral[start:stop] = CENTRES[side] + away
        turned = np.cross(TURNS[:, None], away)
        identity[:, start:stop] = MOVES[:, None] + SCALES[:, None, None] * away + turned
        expression[:, start:stop] = 0
        if side == "right":
            expression[2, start:stop] = (DILATION * eyeball()) @ looking.T
        subparts |= {f"sclera_{side}": (start, start + _SCLERA), f"iris_{side}": (start + _SCLERA, stop)}
    faces = [np.arange(start, stop - 2)[:, None] + np.arange(3) for start, stop in RANGES.values()]
    return {
        "neutral": neutral.astype(np.float32),
        "identity": identity.astype(np.float32),
        "expression": expression.astype(np.float32),
        "expression_names": np.array(NAMES),
        "faces": np.concatenate(faces).astype(np.int32),
        "face_part": np.repeat(np.arange(len(SIZES)), [len(part) for part in faces]).astype(np.int8),
        "part_names": np.array(list(SIZES)),
        "part_vertex_ranges": np.array(list(RANGES.values()), np.int32),
        "subpart_names": np.array(list(subparts)),
        "subpart_vertex_ranges": np.array(list(subparts.values()), np.int32),
        "landmarks68": rng.permutation(SIZES["face"])[:68].astype(np.int32),
    }


def write_ict(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)
    return path
