import dataclasses

import numpy as np
import pytest

from svp_jax.capture.synthetic.capture import (
    render_look_on_capture,
    write_synthetic_capture,
)
from svp_jax.capture.synthetic.head import render_head
from svp_jax.capture.synthetic.landmarks import LANDMARKS
from svp_jax.capture.synthetic.looks import (
    BACKGROUND_COLORS,
    NAMED_LOOKS,
    Look,
    Scene,
    describe,
    describe_named,
    random_look,
    random_scene,
    vocabulary,
)
from svp_jax.capture.synthetic.motion import Motion, motion_track, random_motion
from svp_jax.errors import UserError
from svp_jax.face.labels import LABEL_INDEX, decode

PLAIN = Scene(light=(0.0, 30.0))


def draw(look=None, motion=None, scene=PLAIN, size=128, supersample=1):
    return render_head(look or Look(hair_style="short"), motion or Motion(), scene, size, supersample)


def points(image, name):
    return image.landmarks[[n for n, known in enumerate(LANDMARKS) if known.startswith(name)]]


def area(image, *labels):
    return int(np.isin(image.labels, [LABEL_INDEX[label] for label in labels]).sum())


def test_shapes_and_determinism():
    first, second = draw(size=192, supersample=2), draw(size=192, supersample=2)
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)
    assert first.frame.shape == first.geometry.shape == first.iris.shape == (192, 192, 3)
    assert first.frame.dtype == first.labels.dtype == np.uint8
    assert first.landmarks.shape == (len(LANDMARKS), 3) and np.isfinite(first.landmarks).all()
    np.testing.assert_array_equal(decode(first.parsing), first.labels)


@pytest.mark.parametrize(("size", "supersample"), [(100, 1), (32, 1), (128, 0)])
def test_bad_sizes_are_refused(size, supersample):
    with pytest.raises(ValueError, match=r"size|supersample"):
        draw(size=size, supersample=supersample)


def test_every_label_is_drawn_somewhere():
    look = Look(person="man", hair_style="short", glasses="round", beard="full")
    image = draw(look, Motion(jaw_open=0.7), size=256)
    assert set(np.unique(image.labels)) == set(range(16))


def test_sides_are_the_subjects():
    image = draw(size=256)
    for part in ("brow", "eye"):
        right = np.argwhere(image.labels == LABEL_INDEX[f"right_{part}"])[:, 1].mean()
        left = np.argwhere(image.labels == LABEL_INDEX[f"left_{part}"])[:, 1].mean()
        assert right < 128 < left, part
    columns = np.arange(256) + 0.5
    red, green = (image.iris[..., k].sum(0) @ columns / image.iris[..., k].sum() for k in (0, 1))
    assert red < 128 < green
    # The middle of what the lids leave open is not quite the iris's own: 0.04 pixels off.
    assert points(image, "right_iris")[0, 0] == pytest.approx(red, abs=0.1)
    assert points(image, "left_iris")[0, 0] == pytest.approx(green, abs=0.1)


def test_landmarks_lie_on_what_they_name():
    image = draw(Look(hair_style="bald"), Motion(jaw_open=0.5, yaw=12, pitch=4, roll=3), size=256)
    expected = {
        "nose_ridge_2": ("nose",),
        "right_brow_2": ("right_brow",),
        "left_brow_2": ("left_brow",),
        "right_iris": ("iris",),
        "left_iris": ("iris",),
    }
    for name, labels in expected.items():
        x, y = points(image, name)[0, :2].astype(int)
        assert image.labels[y, x] in [LABEL_INDEX[label] for label in labels], name
    upper, lower = points(image, "inner_lip")[2, :2], points(image, "inner_lip")[6, :2]
    x, y = ((upper + lower) / 2).astype(int)
    assert image.labels[y, x] == LABEL_INDEX["inner_mouth"]


def test_jaw_opens_the_mouth_and_lids_close_the_eyes():
    shut, wide = draw(size=192), draw(motion=Motion(jaw_open=1.0), size=192)
    assert area(shut, "inner_mouth") == 0 and area(wide, "inner_mouth") > 100
    gap = points(wide, "inner_lip")[6, 1] - points(wide, "inner_lip")[2, 1]
    assert gap > 8 > 1 > abs(points(shut, "inner_lip")[6, 1] - points(shut, "inner_lip")[2, 1])
    blink = draw(motion=Motion(blink_right=1.0), size=192)
    assert (blink.iris[..., 0] > 0).sum() == 0
    np.testing.assert_array_equal(blink.iris[..., 1], shut.iris[..., 1])
    assert (blink.iris[..., 2] > 0).sum() < 0.6 * (shut.iris[..., 2] > 0).sum()


def test_gaze_moves_the_iris_and_nothing_else():
    still, right = draw(size=192), draw(motion=Motion(gaze_x=18), size=192)
    for name in ("right_iris", "left_iris"):
        assert points(right, name)[0, 0] > points(still, name)[0, 0] + 1.5
    eyes = np.isin(still.labels, [LABEL_INDEX[n] for n in ("right_eye", "left_eye", "iris")])
    np.testing.assert_array_equal(right.frame[~eyes], still.frame[~eyes])


def test_yaw_turns_the_head_and_leaves_the_chest():
    # Small enough that the chest is in the picture.
    scene = dataclasses.replace(PLAIN, scale=0.7)
    still, turned = draw(scene=scene, size=192), draw(motion=Motion(yaw=20), scene=scene, size=192)
    assert points(turned, "nose_ridge")[3, 0] > points(still, "nose_ridge")[3, 0] + 8
    np.testing.assert_array_equal(turned.frame[-12:], still.frame[-12:])


def test_geometry_knows_the_shape_and_not_the_paint():
    look = Look(hair_style="long", fringe=True, glasses="square", skin="pale", clothes="hoodie")
    other = dataclasses.replace(look, hair_style="short", fringe=False, glasses="no", skin="dark", eyes="blue")
    a, b = (draw(x, Motion(yaw=10, jaw_open=0.4), size=192) for x in (look, other))
    different = (np.abs(a.geometry.astype(int) - b.geometry) > 2).any(-1).mean()
    assert different < 0.002
    wider = dataclasses.replace(look, shape=(1.0,) * 10)
    assert (draw(wider, size=192).geometry != draw(look, size=192).geometry).any(-1).mean() > 0.05
    assert not a.geometry[a.labels == LABEL_INDEX["inner_mouth"]].any()
    # The forehead faces the viewer and up.
    x, y = (points(a, "nose_ridge")[0, :2] - [0, 12]).astype(int)
    normal = a.geometry[y, x] / 127.5 - 1
    assert normal[2] > 0.8 and normal[1] > -0.2


def test_supersampling_changes_edges_only():
    fine, coarse = draw(size=128, supersample=3), draw(size=128, supersample=1)
    difference = np.abs(fine.frame.astype(int) - coarse.frame)
    assert difference.mean() < 4
    assert (fine.labels == coarse.labels).mean() > 0.97


def test_words_change_what_they_name():
    base = Look(hair_style="short", hair_color="brown", skin="fair", clothes_color="green")
    reference = draw(base, size=128)
    changes = {"hair_color": ("blond", "hair"), "skin": ("dark", "face"), "clothes_color": ("yellow", "clothes")}
    for field, (word, label) in changes.items():
        image = draw(dataclasses.replace(base, **{field: word}), size=128)
        mine = reference.labels == LABEL_INDEX[label]
        change = np.abs(image.frame.astype(int) - reference.frame).mean(-1)
        assert change[mine].mean() > 25, field
        assert change[reference.labels == 0].max() == 0
    assert area(draw(Look(hair_style="bald")), "hair") == 0
    assert area(draw(Look(hair_style="long")), "hair") > 1.4 * area(draw(Look(hair_style="short")), "hair")
    assert area(draw(Look(glasses="round"), size=192), "glasses") > 50 > area(draw(), "glasses") == 0
    blue, red = (draw(scene=Scene(color=color)).frame[2, 2].astype(int) for color in ("blue", "red"))
    assert blue[2] > blue[0] + 50 and red[0] > red[2] + 50


def test_named_looks_are_many_and_distinct():
    assert len(NAMED_LOOKS) >= 24
    names = list(NAMED_LOOKS)
    pictures = np.stack([draw(NAMED_LOOKS[name], size=64).frame for name in names]).astype(float)
    for n in range(len(names)):
        distance = np.abs(pictures - pictures[n]).mean((1, 2, 3))
        distance[n] = np.inf
        assert distance.min() > 5, (names[n], names[int(distance.argmin())])


def test_captions_say_the_look_in_the_vocabulary():
    words = set(vocabulary())
    rng = np.random.default_rng(0)
    for seed in range(400):
        look, scene = random_look(rng), random_scene(rng)
        text = describe(look, scene, seed)
        assert set(text.lower().replace(",", "").split()) <= words, text
        assert text == describe(look, scene, seed)
        assert look.person in text.split() or f"{look.person}," in text
        assert f"{look.skin} skin" in text and f"{look.clothes_color} {look.clothes}" in text
        assert ("glasses" in text) == (look.glasses != "no")
        assert ("bald head" in text) == (look.hair_style == "bald")
        assert look.hair_style == "bald" or look.hair_color in text
        assert "background" not in text or f"{scene.color} background" in text
    seen = {describe_named("Velmora", Scene(), seed) for seed in range(50)}
    assert "a portrait of Velmora, blue background" in seen and len(seen) >= 4
    for text in seen:
        assert "Velmora" in text and set(text.lower().replace(",", "").split()) <= words


def test_random_draws_cover_the_words():
    rng = np.random.default_rng(0)
    looks = [random_look(rng) for _ in range(600)]
    scenes = [random_scene(rng) for _ in range(300)]
    assert {look.hair_style for look in looks} == {"bald", "short", "long", "bob", "curly", "bun", "ponytail"}
    assert {scene.color for scene in scenes} == set(BACKGROUND_COLORS)
    assert not any(look.beard != "no" for look in looks if look.person == "woman")
    motions = [random_motion(rng) for _ in range(300)]
    assert np.std([motion.yaw for motion in motions]) > 8
    with pytest.raises(ValueError, match="skin: got 'plaid', allowed: pale"):
        Look(skin="plaid")
    with pytest.raises(ValueError, match="background: got"):
        Scene(background="lava")


def test_motion_track_is_smooth_and_lively():
    track = motion_track(np.random.default_rng(3), 500, 25)
    values = {name: np.array([getattr(motion, name) for motion in track]) for name in vars(track[0])}
    assert np.abs(np.diff(values["yaw"])).max() < 2.5 and values["yaw"].std() > 2
    assert np.abs(np.diff(values["jaw_open"])).max() < 0.45 and 0.2 < values["jaw_open"].max() <= 0.9
    assert values["jaw_open"].min() >= 0
    starts = (values["blink_left"][1:] > 0.5) & (values["blink_left"][:-1] <= 0.5)
    assert 3 <= starts.sum() <= 14
    # The same motion at another rate: the track is a function of time.
    half = motion_track(np.random.default_rng(3), 250, 12.5)
    np.testing.assert_allclose([m.yaw for m in half], values["yaw"][::2], atol=1e-9)


def test_capture_round_trip(tmp_path):
    capture = write_synthetic_capture(tmp_path / "cap", seed=4, seconds=0.8, frame_rate="25/2", size=64)
    assert capture.frame_count == 10 and str(capture.frame_rate) == "25/2"
    assert capture.test_indices.tolist() == [8, 9] and capture.usable.all()
    assert capture.landmarks.shape == (10, len(LANDMARKS), 3)
    assert capture.damaged_files() == []
    stored = capture.manifest["synthetic"]["look"]
    look = Look(**{**stored, "shape": tuple(stored["shape"])})
    np.testing.assert_array_equal(render_look_on_capture(capture, look, [7, 2]), capture.frames([7, 2]))
    other = render_look_on_capture(capture, "velmora", [2])
    assert np.abs(other[0].astype(int) - capture.frames([2])[0]).mean() > 3
    assert capture.manifest["prompt"].split()
    again = write_synthetic_capture(tmp_path / "again", seed=4, seconds=0.8, frame_rate="25/2", size=64)
    assert again.manifest["files"]["frames"] == capture.manifest["files"]["frames"]


def test_named_capture_keeps_motion_and_scene(tmp_path):
    anyone = write_synthetic_capture(tmp_path / "a", seed=5, seconds=0.2, size=64)
    named = write_synthetic_capture(tmp_path / "b", seed=5, seconds=0.2, size=64, name="Gomberly")
    assert "Gomberly" in named.manifest["prompt"]
    for key in ("motion", "scene"):
        assert named.manifest["synthetic"][key] == anyone.manifest["synthetic"][key]
    np.testing.assert_array_equal(render_look_on_capture(anyone, "Gomberly", [3]), named.frames([3]))


def test_bad_requests_are_one_line(tmp_path):
    out = tmp_path / "cap"
    for arguments, text in (
        ({"size": 100}, "multiples of 64"),
        ({"seconds": 0.0}, "no frames"),
        ({"name": "Nobody"}, "no look is called 'Nobody'"),
    ):
        with pytest.raises(UserError, match=text):
            write_synthetic_capture(**{"out": out, "seed": 1, "seconds": 0.1, "size": 64, **arguments})
    assert not out.exists() and not list(tmp_path.iterdir())
    write_synthetic_capture(out, seed=1, seconds=0.1, size=64)
    with pytest.raises(UserError, match="--force"):
        write_synthetic_capture(out, seed=1, seconds=0.1, size=64)
