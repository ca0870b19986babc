"""Training frames of one or more captures, and their copies."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from factories import make_capture

from svp_jax.capture.capture import Capture, CaptureWriter, open_capture
from svp_jax.capture.conditions import details_of, outlines_of
from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.labels import LABEL_INDEX, LABELS, colorize, decode, swap_sides
from svp_jax.face.rasterizer import render_normals
from svp_jax.training.config import Copies
from svp_jax.training.data.copies import (
    SCALE,
    SHIFT,
    TURN,
    UNCOLOURED,
    make_colours,
    make_moves,
    mirror_half,
    mirrors,
    move,
    recolour,
    turn_normals,
)
from svp_jax.training.data.views import training_views


@pytest.fixture(scope="module")
def capture(capture_folder):
    return open_capture(capture_folder)


def own_pictures(capture: Capture, stage: str, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and conditions as the capture has them."""
    if stage == "outlines":
        return capture.parsing(frames), outlines_of(capture, frames, 3)
    return capture.frames(frames), details_of(capture, frames, capture.parsing(frames))


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_the_first_views_are_the_frames_as_they_are(capture, stage):
    frames = capture.train_indices
    targets, conditions = own_pictures(capture, stage, frames)
    for copies in (Copies(), Copies(per_frame=3, flipped=True, colour=0.5)):
        views = training_views([capture], copies, seed=1)
        assert len(views) == (1 + copies.per_frame) * len(frames)
        numbers = np.arange(len(frames))
        assert not views.changed(numbers).any()
        np.testing.assert_array_equal(views.targets(stage, numbers), targets)
        np.testing.assert_array_equal(views.condition(stage, numbers, 3), conditions)
    assert views.changed(np.arange(len(frames), len(views))).all()


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_views_of_several_captures_follow_each_other(capture, tmp_path, stage):
    other = open_capture(make_capture(tmp_path / "other", 12, cuts=(3,)))
    views = training_views([capture, other], Copies(per_frame=1), seed=1)
    targets, conditions = zip(
        *(own_pictures(each, stage, each.train_indices) for each in (capture, other)), strict=True
    )
    count = sum(map(len, targets))
    assert len(views) == 2 * count
    np.testing.assert_array_equal(views.targets(stage, np.arange(count)), np.concatenate(targets))
    # Windows end at the shots of each.
    np.testing.assert_array_equal(views.condition(stage, np.arange(count), 3), np.concatenate(conditions))
    last = np.array([2 * count - 1])
    np.testing.assert_array_equal(views.targets(stage, last), move(targets[1][-1:], views.moves[last]))
    # Copies are of the same.
    origins = [(n, frame) for n, each in enumerate((capture, other)) for frame in each.train_indices]
    np.testing.assert_array_equal(views.origins(np.arange(2 * count)), np.tile(origins, (2, 1)))
    hashes = {training_views(captures, Copies(), 1).source_hash() for captures in ([capture, other], [other, capture])}
    assert len({*hashes, training_views([capture], Copies(), 1).source_hash()}) == 3


def test_views_are_small_when_pickled(tmp_path):
    """They go to each process that makes batches; 500 frames' landmarks are 3 MB."""
    long = open_capture(make_capture(tmp_path / "long", 8))
    long = replace(long, landmarks=np.zeros((500, 478, 3), np.float32))
    views = training_views([long], Copies(per_frame=1), seed=0)
    assert len(pickle.dumps(views)) < 10000 < len(pickle.dumps(long))


def test_picture_and_conditions_of_a_copy_move_alike(capture):
    """All maps of these captures show the same disc: its middle goes to the same place in each."""
    views = training_views([capture], Copies(per_frame=1), seed=1)
    count = len(capture.train_indices)

    def middles(images):
        return np.array([np.argwhere(image.any(-1)).mean(0)[::-1] for image in images])

    before = np.arange(count)
    parsing = middles(views.targets("outlines", before)), middles(views.targets("outlines", before + count))
    condition = views.condition("details", before, 3), views.condition("details", before + count, 3)
    for channels in (slice(0, 3), slice(3, 6)):
        start, end = (middles(images[..., channels]) for images in condition)
        expected = np.einsum("nij,nj->ni", views.moves[count:], np.c_[start, np.ones(count)])
        # What lies at an edge is cut or repeated there, so only discs that stay inside are compared.
        inside = (np.abs(expected - capture.size / 2) < capture.size / 6).all(1)
        assert inside.sum() > count / 3
        assert np.abs(end - expected)[inside].max() < 1.0
        assert np.abs(end - parsing[1])[inside].max() < 1.0
    assert np.abs(parsing[1] - parsing[0]).max() > 2


def test_moves_stay_in_their_range_and_depend_on_the_seed(capture):
    views = training_views([capture], Copies(per_frame=20), seed=1)
    moves = views.moves[len(capture.train_indices) :]
    scale = np.sqrt(np.linalg.det(moves[:, :, :2]))
    turn = np.arctan2(moves[:, 1, 0], moves[:, 0, 0])
    assert 0.8 * SCALE < np.abs(np.log(scale)).max() <= SCALE + 1e-6
    assert 0.8 * TURN < np.abs(turn).max() <= TURN + 1e-6
    np.testing.assert_allclose(moves[:, 0, :2] @ [1, 0], moves[:, 1, :2] @ [0, 1], atol=1e-6)
    middle = (capture.size - 1) / 2
    moved = moves @ np.array([middle, middle, 1.0]) - middle
    assert np.abs(moved).max() <= SHIFT * capture.size + 1e-3
    assert np.abs(moved).max() > 0.8 * SHIFT * capture.size
    assert training_views([capture], Copies(per_frame=20), seed=1).source_hash() == views.source_hash()
    others = ((Copies(20), 2), (Copies(19), 1), (Copies(20, flipped=True), 1), (Copies(20, colour=0.1), 1))
    for copies, seed in others:
        assert training_views([capture], copies, seed).source_hash() != views.source_hash()


def test_normals_turn_with_the_surface():
    """A moved picture of a tilted triangle is the picture of the moved triangle."""
    triangle = np.array([[30.0, 20.0, 0.0], [100.0, 40.0, 40.0], [60.0, 110.0, -30.0]])
    matrix = make_moves(1, 1, 128, seed=3)[1:]
    linear, shift = matrix[0, :, :2], matrix[0, :, 2]
    assert abs(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))) > 3
    scale = np.sqrt(np.linalg.det(linear))
    # Pixel centres lie at integer + 0.5 for the rasterizer, at integers for moves.
    moved = np.c_[(triangle[:, :2] - 0.5) @ linear.T + shift + 0.5, triangle[:, 2] * scale]
    faces = np.array([[0, 1, 2]])
    before, expected = (render_normals(points, faces, 128, 128)[None] for points in (triangle, moved))
    found = move(turn_normals(before, matrix), matrix)
    inside = move(before.any(-1, keepdims=True).repeat(3, -1).astype(np.uint8) * 255, matrix)[..., 0] == 255
    assert inside.sum() > 1000
    # One level of rounding in each of the two renders.
    assert np.abs(found.astype(int) - expected)[inside].max() <= 2
    assert np.abs(before[0, 50, 60].astype(int) - expected[0, 50, 60]).max() > 5
    assert not turn_normals(np.zeros_like(before), matrix).any()


def test_a_shift_by_whole_pixels_repeats_the_edge():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 9), np.uint8)
    moved = move(image, np.array([[[1, 0, 2], [0, 1, -1]]], np.float32))
    expected = np.pad(image, ((0, 0), (0, 1), (2, 0), (0, 0)), mode="edge")[:, 1:, :8]
    np.testing.assert_array_equal(moved, expected)


def asymmetric_face(size: int, seed: int) -> np.ndarray:
    """Landmarks [478, 3] in pixels whose eyes, brows and mouth are ellipses, not alike on both sides."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.4 * size, 0.6 * size, (478, 3))
    places = {
        mesh.RIGHT_EYE: (0.3, 0.4, 0.1), mesh.LEFT_EYE: (0.65, 0.35, 0.12), mesh.RIGHT_BROW: (0.3, 0.25, 0.08),
        mesh.LEFT_BROW: (0.7, 0.2, 0.1), mesh.RIGHT_IRIS: (0.33, 0.4, 0.05), mesh.LEFT_IRIS: (0.6, 0.36, 0.06),
        mesh.NOSE: (0.55, 0.55, 0.08), mesh.UPPER_LIP: (0.4, 0.75, 0.1), mesh.LOWER_LIP: (0.4, 0.85, 0.09),
        mesh.INNER_MOUTH: (0.42, 0.8, 0.05),
    }  # fmt: skip
    for part, (x, y, radius) in places.items():
        angles = np.linspace(0, 2 * np.pi, len(part), endpoint=False)
        ring = np.stack([x + radius * np.cos(angles), y + 0.6 * radius * np.sin(angles)], axis=1)
        points[list(part), :2] = size * (ring + rng.uniform(-0.02, 0.02, 2))
    # The first point of an iris is its middle.
    for iris in (mesh.RIGHT_IRIS, mesh.LEFT_IRIS):
        points[iris[0]] = points[list(iris[1:])].mean(axis=0)
    return points


def mirrored_face(points: np.ndarray, size: int) -> np.ndarray:
    """What is on the right is then on the left, and has the landmarks of that side."""
    flipped = points * [-1, 1, 1] + [size, 0, 0]
    result = flipped.copy()
    pairs = ((mesh.RIGHT_EYE, mesh.LEFT_EYE), (mesh.RIGHT_BROW, mesh.LEFT_BROW), (mesh.RIGHT_IRIS, mesh.LEFT_IRIS))
    for right, left in pairs:
        result[list(right)], result[list(left)] = flipped[list(left)], flipped[list(right)]
    return result


SIDELESS = np.array([15 * LABELS.index(name.replace("left", "right")) for name in LABELS], np.uint8)


def capture_of_faces(folder, faces: list[np.ndarray], size: int, mirrored: bool) -> Capture:
    """Drawn by what draws the maps of real captures; the frame shows the labels in other colours."""
    folder.mkdir()
    writer = CaptureWriter(folder, size)
    corners = np.array([[0, 1, 2], [2, 1, 3]])
    for points in faces:
        labels = np.zeros((size, size), np.uint8)
        mesh.draw_parts(labels, points)
        # Of a surface alone: four landmarks, and outwards stays outwards in the mirror.
        triangles = corners[:, ::-1] if mirrored else corners
        geometry = render_normals(points[[0, 1, 4, 5]], triangles, size, size)
        # A frame has no sides.
        frame = SIDELESS[labels]
        writer.add(np.stack([frame] * 3, axis=-1), colorize(labels), geometry, mesh.iris_map(points, size))
    tracking = {"shot": np.zeros(len(faces)), "landmarks": np.zeros((len(faces), 478, 3), np.float32)}
    info = {"source": {}, "frame_rate": "25", "face_model": "test", "parser": "test", "test_fraction": 0.0}
    writer.finish(tracking, info)
    return open_capture(folder)


@pytest.mark.parametrize("stage", ["outlines", "details"])
def test_mirrored_views_are_those_of_a_mirrored_face(tmp_path, stage):
    size = 128
    faces = [asymmetric_face(size, seed) for seed in range(3)]
    # The same surface throughout: tilted to one side, large, not in the middle.
    for number, points in enumerate(faces):
        points[[0, 1, 4, 5]] = [[20, 20, 0], [90, 30 + number, 40], [30, 100, 10 * number], [100, 110, 60]]
    capture = capture_of_faces(tmp_path / "one", faces, size, mirrored=False)
    other = capture_of_faces(tmp_path / "other", [mirrored_face(f, size) for f in faces], size, mirrored=True)
    plain = training_views([other], Copies(), seed=0)
    numbers = np.arange(3)
    views = training_views([capture], Copies(), seed=0)
    straight = replace(views, moves=np.tile(np.array([[-1, 0, size - 1], [0, 1, 0]], np.float32), (3, 1, 1)))
    assert views.changed(numbers).sum() == 0 and straight.changed(numbers).all()

    def apart(one: np.ndarray, two: np.ndarray) -> float:
        """Share of the pixels that are not alike: OpenCV rounds the edges of polygons to one side."""
        return float((np.abs(one.astype(int) - two).max(axis=-1) > 2).mean())

    def pictures(of):
        return of.targets(stage, numbers), of.condition(stage, numbers, 3)

    for found, expected, before in zip(*map(pictures, (straight, plain, views)), strict=True):
        for start in range(0, found.shape[-1], 3):
            channels = slice(start, start + 3)
            assert apart(found[..., channels], expected[..., channels]) < 0.002
            # The pixels' places alone are not enough, but for frames.
            unturned = apart(before[:, :, ::-1, channels], expected[..., channels])
            assert unturned > 0.01 or (stage == "details" and found.shape[-1] == 3)


def test_sides_are_exchanged_and_nothing_else():
    labels = np.arange(16)
    swapped = decode(swap_sides(colorize(labels)))
    names = [LABELS[index] for index in swapped]
    assert names[LABEL_INDEX["right_eye"]] == "left_eye" and names[LABEL_INDEX["left_eye"]] == "right_eye"
    assert names[LABEL_INDEX["right_brow"]] == "left_brow" and names[LABEL_INDEX["left_brow"]] == "right_brow"
    assert sum(name != label for name, label in zip(names, LABELS, strict=True)) == 4
    np.testing.assert_array_equal(swap_sides(swap_sides(colorize(labels))), colorize(labels))


def test_about_half_are_mirrored_and_then_moved():
    moves = make_moves(0, 1, 64, seed=0)
    assert moves.shape == (0, 2, 3)
    moves = make_moves(1, 400, 64, seed=0)[1:]
    flipped = mirror_half(moves, 64, seed=0)
    chosen = np.array([mirrors(matrix) for matrix in flipped])
    assert 150 < chosen.sum() < 250
    np.testing.assert_array_equal(flipped[~chosen], moves[~chosen])
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    # Smooth, since two ways of the same interpolation round differently.
    image = cv2.GaussianBlur(image[0], (0, 0), 4)[None]
    first = np.flatnonzero(chosen)[:1]
    found, expected = move(image, flipped[first]), move(image[:, :, ::-1], moves[first])
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_colours_change_within_their_range():
    colours = make_colours(500, 0.2, seed=0)
    assert not np.array_equal(colours, make_colours(500, 0.2, seed=1))
    images = np.full((500, 2, 2, 3), 127, np.uint8)
    images[:, 0] = 60
    changed = recolour(images, colours).astype(float)
    # The middle grey changes by brightness and balance alone.
    share = changed[:, 1, 0] / 127
    assert 0.63 < share.min() < 0.75 and 1.25 < share.max() < 1.45
    assert share.std(axis=1).max() > 0.05
    # A difference also by contrast.
    contrast = (changed[:, 1, 0] - changed[:, 0, 0]) / 67 / share
    assert 0.78 < contrast.min() < 0.9 and 1.1 < contrast.max() < 1.22
    np.testing.assert_array_equal(recolour(images[:1], UNCOLOURED[None]), images[:1])
    assert recolour(np.full((1, 2, 2, 3), 250, np.uint8), np.float32([[[2, 0], [-1, 0], [1, 0]]]))[
        0, 0, 0
    ].tolist() == [
        255,
        0,
        250,
    ]


def test_only_frames_are_recoloured(capture):
    views = training_views([capture], Copies(per_frame=1, moved=False, colour=0.5), seed=0)
    count = len(capture.train_indices)
    own, copies = np.arange(count), np.arange(count, 2 * count)
    np.testing.assert_array_equal(views.targets("outlines", copies), views.targets("outlines", own))
    for stage in ("outlines", "details"):
        np.testing.assert_array_equal(views.condition(stage, copies, 3), views.condition(stage, own, 3))
    differences = np.abs(views.targets("details", copies).astype(int) - views.targets("details", own))
    assert (differences.mean(axis=(1, 2, 3)) > 1).all()
