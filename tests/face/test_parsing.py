import numpy as np
import pytest

from svp_jax.face import mediapipe_mesh as mesh
from svp_jax.face.labels import FACE_LABELS, LABEL_INDEX, LABELS
from svp_jax.face.parsers import COARSE
from svp_jax.face.parsing import guessed_scores, parsing_labels, smooth_scores

SIZE = 128


@pytest.fixture
def landmarks(real_face):
    image, points = real_face
    return points * (SIZE / len(image))


def scores_of(labels: dict[str, tuple[slice, slice]]) -> np.ndarray:
    scores = np.zeros((SIZE, SIZE, len(COARSE)), np.float32)
    scores[..., 0] = 0.5
    for name, place in labels.items():
        scores[(*place, COARSE.index(name))] = 0.9
    return scores


def at(labels: np.ndarray, row: float, column: float) -> str:
    return LABELS[labels[int(row), int(column)]]


def test_all_inside_the_oval_is_face_even_if_the_parser_sees_nothing(landmarks):
    labels = parsing_labels(scores_of({}), landmarks)
    oval = mesh.region(landmarks, mesh.FACE_OVAL, SIZE) > 127
    assert {LABELS[label] for label in np.unique(labels[oval])} <= set(FACE_LABELS)
    assert (labels[~oval] == 0).mean() > 0.98


def test_only_the_part_with_the_face_is_kept(landmarks):
    chin = landmarks[152]
    body = (slice(int(chin[1]) - 5, SIZE), slice(int(chin[0]) - 30, int(chin[0]) + 30))
    far = (slice(0, 30), slice(0, 8))
    labels = parsing_labels(np.maximum(scores_of({"clothes": body}), scores_of({"clothes": far})), landmarks)
    assert at(labels, SIZE - 1, chin[0]) == "clothes"
    assert at(labels, 10, 3) == "background"


def test_specks_and_holes_vanish(landmarks):
    scores = scores_of({"skin": (slice(0, SIZE), slice(0, SIZE))})
    scores[4:7, 4:7, :] = 0  # a hole
    scores[4:7, 4:7, 0] = 0.5
    below = landmarks[152].astype(int) + np.array([0, 8, 0])
    scores[below[1] : below[1] + 3, below[0] : below[0] + 3, COARSE.index("clothes")] = 1.0  # a speck
    labels = parsing_labels(scores, landmarks)
    assert not (labels == LABEL_INDEX["clothes"]).any()
    assert not (labels == LABEL_INDEX["background"]).any()


def test_hair_over_the_forehead_stays_and_below_the_brows_does_not(landmarks):
    everywhere = (slice(0, SIZE), slice(0, SIZE))
    labels = parsing_labels(scores_of({"hair": everywhere}), landmarks)
    top, nose = landmarks[10], landmarks[4]
    assert at(labels, top[1] + 2, top[0]) == "hair"
    assert at(labels, nose[1], nose[0]) == "nose"
    cheek = landmarks[50]
    assert at(labels, cheek[1], cheek[0]) == "face"


def test_glasses_of_a_parser_stay_on_the_face(landmarks):
    bridge = landmarks[50].astype(int)
    place = (slice(bridge[1] - 3, bridge[1] + 3), slice(bridge[0] - 3, bridge[0] + 3))
    labels = parsing_labels(scores_of({"glasses": place}), landmarks)
    assert at(labels, bridge[1], bridge[0]) == "glasses"


def test_guess_has_hair_above_neck_below_and_follows_the_head(landmarks):
    labels = parsing_labels(guessed_scores(landmarks, SIZE), landmarks)
    top, chin = landmarks[10], landmarks[152]
    assert at(labels, top[1] - 4, top[0]) == "hair"
    assert at(labels, min(SIZE - 1, chin[1] + 6), chin[0]) == "skin"
    moved = landmarks + np.array([-5, 3, 0])
    shifted = parsing_labels(guessed_scores(moved, SIZE), moved)
    # Whole pixels: the map moves with the landmarks (the neck's lower end is cut off by the picture).
    assert (shifted[3:100, : SIZE - 5] == labels[:97, 5:]).mean() > 0.995


def test_scores_are_averaged_symmetrically():
    low, high = np.zeros((2, 2, 1)), np.ones((2, 2, 1))
    assert smooth_scores(low, high, low).max() == 0.5
    assert smooth_scores(None, high, low) is high
    assert smooth_scores(low, high, None) is high
