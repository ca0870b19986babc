"""Reports of renders, captures and videos against captures and videos."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from factories import draw_frame, make_avatar, make_base, make_capture

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_png, write_png
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.errors import UserError
from svp_jax.face.tracking import Face
from svp_jax.manifest import read_manifest, sha256_file, write_manifest
from svp_jax.metrics import evaluate, measured, mse, psnr, summary
from svp_jax.metrics import protocol as protocol_module
from svp_jax.metrics.baselines import (
    avatar_vae,
    condition_signatures,
    mean_training_frame,
    nearest_training_frames,
)
from svp_jax.metrics.comparison import method_names
from svp_jax.metrics.pairs import pair_frames, shown_by_all
from svp_jax.metrics.score import means
from svp_jax.metrics.sources import open_source
from svp_jax.models.codec import round_trips
from svp_jax.weights.folder import load_model

RATE = Fraction(25)
FRAMES = 30  # the last 6 are the held-out part


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Frame 26 has no face."""
    return make_capture(tmp_path_factory.mktemp("capture") / "capture", FRAMES, without_face=(26,))


@pytest.fixture(scope="module")
def avatar(capture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    avatar = make_avatar(folder / "avatar", make_base(folder / "base"), stages=("details",))
    manifest = read_manifest(avatar, "avatar")
    sha256 = read_manifest(capture, "capture")["manifest_sha256"]
    manifest["captures"] = [{"path": str(capture), "manifest_sha256": sha256, "size": 64}]
    write_manifest(avatar, "avatar", {k: v for k, v in manifest.items() if k != "manifest_sha256"})
    return avatar


def write_video(path, numbers, rate=RATE, size=64):
    with VideoWriter(path, rate, size, size, crf=0) as video:
        for number in numbers:
            video.write(draw_frame(number, size)[0])
    return path


def sha256_of(capture):
    return read_manifest(capture, "capture")["manifest_sha256"]


def make_render(folder, avatar, frames, held=(), shot_starts=(0,), shown=None, rate=RATE, driver="0" * 64):
    """A render whose pictures are the reference's own frames `shown`, their blue two levels brighter."""
    folder.mkdir()
    (folder / "frames").mkdir()
    for frame, number in zip(frames, frames if shown is None else shown, strict=False):
        write_png(folder / "frames" / f"{frame:06d}.png", draw_frame(number, 64)[0] + np.uint8([0, 0, 2]))
    made_from = read_manifest(avatar, "avatar") if avatar.exists() else {"manifest_sha256": None, "base": None}
    body = {
        "avatar": str(avatar),
        "avatar_sha256": made_from["manifest_sha256"],
        "base": made_from["base"],
        "settings": {"unet": "tuned"},
        "size": 64,
        "frame_rate": str(rate),
        "driver_sha256": driver,
        "frames": list(frames),
        "held": list(held),
        "shot_starts": list(shot_starts),
    }
    write_manifest(folder, "render", body)
    return folder


def rows_left_out(manifest):
    """What there is no row or region of, as opposed to metrics."""
    rows = {"nearest_frame", "mean_frame", "vae_round_trip", "face", "person"}
    return rows & manifest["left_out"].keys()


@pytest.fixture(scope="module")
def report(capture, avatar, tmp_path_factory):
    """Of a render of the held-out part that shows the true frames, one late from position 3 on."""
    folder = tmp_path_factory.mktemp("report")
    render = make_render(
        folder / "render",
        avatar,
        range(24, 30),
        held=(2,),
        shot_starts=(0, 3),
        shown=(24, 25, 25, 26, 27, 28),
        driver=sha256_of(capture),
    )
    return evaluate(render, capture, folder / "report")


def test_report_pairs_by_the_frame_map_and_leaves_held_frames_out(report):
    manifest = read_manifest(report, "report")
    protocol = manifest["protocol"]
    method = manifest["methods"]["result"]
    assert manifest["frames"]["methods"]["result"] == [0, 1, 3, 4, 5]
    assert protocol["reference_frames"] == manifest["frames"]["reference"] == [24, 25, 27, 28, 29]
    assert manifest["frames"]["seconds"] == [0.96, 1.0, 1.08, 1.12, 1.16]
    assert method["frames_left_out"] == {"not rendered, since the driver has no face": 1}
    assert protocol["frames_scored"] == 5 and protocol["smoothness_pairs"] == 3
    assert protocol["size"] == [64, 64] and protocol["frames_of_the_references_training_split"] == 0
    assert method["pictures"] == "without loss" and "numpy" in protocol["versions"]
    # Those that need no weights are there, and the others have a reason.
    assert manifest["left_out"].keys() & {"psnr", "tof", "nearest_frame", "vae_round_trip"} == set()
    assert "161 x 161 or more" in manifest["left_out"]["ms_ssim"]


def test_a_reference_that_did_not_drive_the_render_warns(capture, avatar, report, tmp_path):
    assert read_manifest(report, "report")["methods"]["result"]["pairing"] == "by the frame map of render.json"
    render = make_render(tmp_path / "render", avatar, range(24, 30))
    with pytest.warns(UserWarning, match="driven by another capture than .*only if both move alike"):
        pairs = pair_frames(open_source(render), open_source(capture))
    assert pairs.reference.tolist() == [24, 25, 27, 28, 29] and "another driver" in pairs.rule


def test_report_scores_every_candidate_in_both_regions(report):
    manifest = read_manifest(report, "report")
    assert list(manifest["scores"]) == ["result", "nearest_frame", "mean_frame", "vae_round_trip"]
    for name, regions in manifest["scores"].items():
        for region in ("full", "face", "person"):
            assert all(value is not None for value in regions[region].values()), (name, region)
            assert regions[region]["psnr_infinite"] == 0
            per_frame = manifest["per_frame"][name][region]
            assert [value is None for value in per_frame["smoothness"]] == [True, False, True, False, False]
            assert {"psnr", "ssim", "mse", "l1", "smoothness", "flicker", "tof", "warping_error"} <= per_frame.keys()
            for metric, values in per_frame.items():
                known = [value for value in values if value is not None]
                assert regions[region][metric] == pytest.approx(np.mean(known)), (name, region, metric)


def test_scores_are_those_of_the_pictures(report, capture):
    """Frames 0 and 1 show the truth but for their blue, the later ones the frame before."""
    per_frame = read_manifest(report, "report")["per_frame"]["result"]["full"]
    truth = {number: draw_frame(number, 64)[0] / 255 for number in range(24, 30)}
    blue = np.array([0, 0, 2 / 255])
    shown = {24: 24, 25: 25, 27: 26, 28: 27, 29: 28}
    expected = [psnr(truth[number] + blue, truth[true]) for true, number in shown.items()]
    np.testing.assert_allclose(per_frame["psnr"], expected, rtol=1e-6)
    assert min(expected[:2]) > 40 > 27 > max(expected[2:])


def test_baselines_and_ceiling_are_what_they_say(report, capture, avatar):
    opened = open_capture(capture)
    per_frame = read_manifest(report, "report")["per_frame"]
    indices = np.array([24, 25, 27, 28, 29])
    references = opened.frames(indices) / 255

    mean = np.round(opened.frames(opened.train_indices).mean(axis=0)) / 255
    expected = [mse(mean, reference) for reference in references]
    np.testing.assert_allclose(per_frame["mean_frame"]["full"]["mse"], expected, rtol=1e-6)

    nearest = opened.frames(nearest_training_frames([opened], opened, indices)[1]) / 255
    expected = [mse(*pair) for pair in zip(nearest, references, strict=True)]
    np.testing.assert_allclose(per_frame["nearest_frame"]["full"]["mse"], expected, rtol=1e-6)

    vae = load_model(read_manifest(avatar, "avatar")["base"]["path"] + "/vae")
    decoded = np.stack(list(round_trips(vae, opened.frames(indices)))) / 255
    expected = [mse(*pair) for pair in zip(decoded, references, strict=True)]
    np.testing.assert_allclose(per_frame["vae_round_trip"]["full"]["mse"], expected, rtol=1e-4)


def test_nearest_frame_equals_a_search_by_hand_and_finds_itself(capture):
    opened = open_capture(capture)
    indices = np.array([27, 24, 3])
    _, nearest = nearest_training_frames([opened], opened, indices)
    candidates = condition_signatures(opened, opened.train_indices)
    for index, found in zip(indices, nearest, strict=True):
        distances = np.linalg.norm(candidates - condition_signatures(opened, [index]), axis=1)
        assert found == opened.train_indices[distances.argmin()]
    assert nearest[2] == 3
    assert mean_training_frame([opened]).shape == (64, 64, 3)


def test_baselines_look_in_all_captures(capture, tmp_path):
    opened, other = open_capture(capture), open_capture(make_capture(tmp_path / "other", 12))
    sources, frames = nearest_training_frames([other, opened], opened, np.array([20, 3]))
    # Both show the same; the first ends before frame 20.
    assert sources.tolist() == [1, 0] and frames.tolist() == [20, 3]
    both = np.concatenate([each.frames(each.train_indices) for each in (other, opened)])
    np.testing.assert_array_equal(mean_training_frame([other, opened]), np.round(both.mean(axis=0)))


def test_round_trips_do_not_depend_on_the_batch(avatar, capture):
    vae = load_model(read_manifest(avatar, "avatar")["base"]["path"] + "/vae")
    images = open_capture(capture).frames(range(11))
    together = np.stack(list(round_trips(vae, images)))
    assert together.shape == images.shape and together.dtype == np.uint8
    alone = np.stack([next(round_trips(vae, [image])) for image in images])
    assert np.abs(together.astype(int) - alone).max() <= 1  # another place in the batch may round otherwise
    mean, _ = vae.encode(images[:2] / np.float32(127.5) - 1)
    expected = np.clip((np.asarray(vae.decode(mean)) + 1) * 127.5, 0, 255)
    assert np.abs(together[:2] - expected).max() <= 1


def test_contact_sheet_and_table_hold_every_frame(report):
    sheet = read_png(report / "contact_sheet.png")
    rows = ("reference", "result", "nearest frame", "mean frame", "parsing", "geometry", "iris")
    assert sheet.shape == (24 + 64 * len(rows), 132 + 64 * 5, 3)
    reference_row = sheet[24 : 24 + 64, 132:].reshape(64, 5, 64, 3)
    np.testing.assert_array_equal(reference_row[:, 3], draw_frame(28, 64)[0])
    result_row = sheet[24 + 64 : 24 + 2 * 64, 132:].reshape(64, 5, 64, 3)
    np.testing.assert_array_equal(result_row[:, 0], draw_frame(24, 64)[0] + np.uint8([0, 0, 2]))
    assert (sheet[24:, :132] < 200).any(axis=(1, 2)).reshape(len(rows), 64).any(axis=1).all()  # labelled
    with open(report / "frames.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["reference_frame"] for row in table] == ["24", "25", "27", "28", "29"]
    per_frame = read_manifest(report, "report")["per_frame"]
    assert [float(row["result_face_psnr"]) for row in table] == per_frame["result"]["face"]["psnr"]
    assert table[0]["mean_frame_full_smoothness"] == ""


def test_summary_has_a_line_for_each_score(report):
    text = summary(report)
    scores = read_manifest(report, "report")["scores"]
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + 3 * len(scores)]] == [name for name in scores for _ in range(3)]
    assert f"{scores['result']['face']['psnr']:.2f}" in lines[2]
    assert "5 frames of 64 x 64 pixels" in lines[-1]


def test_a_capture_against_itself_is_perfect_and_its_infinite_psnr_is_null(capture, tmp_path):
    report = evaluate(capture, capture, tmp_path / "report")
    text = (report / "metrics.json").read_text()
    assert "Infinity" not in text and "NaN" not in text
    manifest = json.loads(text)
    result = manifest["scores"]["result"]["full"]
    exact = {"psnr": None, "ssim": 1, "mse": 0, "l1": 0, "smoothness": 0, "tof": 0, "psnr_infinite": FRAMES - 1}
    assert {name: result[name] for name in exact} == exact
    assert result["flicker"] == result["flicker_reference"] > 0
    assert manifest["protocol"]["frames_scored"] == FRAMES - 1
    assert manifest["protocol"]["frames_of_the_references_training_split"] == 24
    assert "no render" in manifest["left_out"]["vae_round_trip"]
    assert "-" in summary(report)


def test_videos_are_scored_without_what_needs_a_capture(tmp_path):
    video = write_video(tmp_path / "a.mp4", range(12))
    other = write_video(tmp_path / "b.mp4", range(1, 13))
    manifest = read_manifest(evaluate(video, other, tmp_path / "report"), "report")
    assert list(manifest["scores"]) == ["result"] and list(manifest["scores"]["result"]) == ["full"]
    assert rows_left_out(manifest) == {"nearest_frame", "mean_frame", "vae_round_trip", "face", "person"}
    assert manifest["protocol"]["smoothness_pairs"] == 11


def test_a_video_of_the_held_out_part_is_paired_with_it(capture, tmp_path):
    video = write_video(tmp_path / "a.mp4", range(24, 30))
    pairs = pair_frames(open_source(video), open_source(capture))
    assert pairs.reference.tolist() == [24, 25, 27, 28, 29] and pairs.subject.tolist() == [0, 1, 3, 4, 5]
    assert pairs.follows.tolist() == [False, True, False, True, True]
    assert pairs.left_out == {"no face in the capture capture": 1}


def test_videos_of_other_rates_are_paired_by_time(tmp_path):
    fast = write_video(tmp_path / "fast.mp4", range(12), Fraction(50))
    slow = write_video(tmp_path / "slow.mp4", range(6), Fraction(25))
    pairs = pair_frames(open_source(fast), open_source(slow))
    assert pairs.reference.tolist() == [0, 1, 2, 3, 4, 5] and pairs.subject.tolist() == [0, 2, 4, 6, 8, 10]
    assert pairs.left_out == {"another one shows the same frame of the reference": 6}
    assert pairs.follows.tolist() == [False] + [True] * 5
    pairs = pair_frames(open_source(slow), open_source(fast))
    assert pairs.reference.tolist() == [1, 3, 5, 7, 9, 11] and pairs.follows.tolist() == [False] + [True] * 5
    both = shown_by_all([pairs, pair_frames(open_source(fast), open_source(fast))], ["slow", "fast"])
    assert both[1].subject.tolist() == [1, 3, 5, 7, 9, 11] and both[1].follows.tolist() == [False] + [True] * 5


def test_as_many_frames_of_another_rate_are_not_paired_by_position(tmp_path):
    fast = write_video(tmp_path / "fast.mp4", range(12), Fraction(50))
    slow = write_video(tmp_path / "slow.mp4", range(12), Fraction(25))
    with pytest.raises(UserError, match=r"12 frames \(0\.24 s, 50 a second\).*12 \(0\.48 s, 25 a second\)"):
        pair_frames(open_source(fast), open_source(slow))


def test_frames_that_are_missing_in_between_are_left_out(tmp_path):
    """Of a video that kept its times when it lost two frames."""
    whole = open_source(write_video(tmp_path / "a.mp4", range(24)))
    kept = np.delete(np.arange(24), [5, 11])
    part = dataclasses.replace(whole, count=22, times=whole.times[kept])
    pairs = pair_frames(part, whole)
    assert pairs.reference.tolist() == kept.tolist()
    assert np.flatnonzero(~pairs.follows).tolist() == [0, 5, 10]


def test_pictures_of_a_video_are_read_in_order_with_gaps(tmp_path):
    source = open_source(write_video(tmp_path / "a.mp4", range(9)))
    assert source.count == 9
    for number, picture in zip((0, 3, 3, 8), source.pictures(np.array([0, 3, 3, 8])), strict=True):
        assert psnr(picture / 255, draw_frame(number, 64)[0] / 255) > 30


def test_new_shots_in_the_reference_break_the_chain(avatar, tmp_path):
    reference = make_capture(tmp_path / "capture", 10, cuts=(4,))
    render = make_render(tmp_path / "render", avatar, range(10), shot_starts=(0, 7), driver=sha256_of(reference))
    follows = pair_frames(open_source(render), open_source(reference)).follows
    assert np.flatnonzero(~follows).tolist() == [0, 4, 7]


def test_an_avatar_that_is_gone_is_a_reason_not_an_error(capture, tmp_path):
    render = make_render(tmp_path / "render", tmp_path / "gone", range(24, 30), driver=sha256_of(capture))
    manifest = read_manifest(evaluate(render, capture, tmp_path / "report"), "report")
    assert list(manifest["scores"]) == ["result"]
    assert all("gone: no such folder" in manifest["left_out"][name] for name in rows_left_out(manifest))


def changed_copy(folder, kind, target, **changes):
    """A copy of a finished folder with another manifest."""
    shutil.copytree(folder, target)
    manifest = read_manifest(target, kind)
    write_manifest(target, kind, {k: v for k, v in manifest.items() if k != "manifest_sha256"} | changes)
    return target


def test_what_was_made_again_since_is_a_reason_not_a_baseline(capture, avatar, tmp_path):
    other = changed_copy(avatar, "avatar", tmp_path / "avatar")
    render = make_render(tmp_path / "render", other, range(24, 30), driver=sha256_of(capture))
    changed_copy(avatar, "avatar", tmp_path / "again", prompt="trained again")
    shutil.rmtree(other)
    (tmp_path / "again").rename(other)
    manifest = read_manifest(evaluate(render, capture, tmp_path / "report"), "report")
    assert rows_left_out(manifest) == {"nearest_frame", "mean_frame", "vae_round_trip"}
    reasons = [manifest["left_out"][name] for name in rows_left_out(manifest)]
    assert all("is not the one that was rendered any more" in reason for reason in reasons)


def test_a_training_capture_that_was_made_again_is_no_baseline(capture, avatar, tmp_path):
    training = {"path": str(make_capture(tmp_path / "training", 12)), "manifest_sha256": "1" * 64, "size": 64}
    other = changed_copy(avatar, "avatar", tmp_path / "avatar", captures=[training])
    render = make_render(tmp_path / "render", other, range(24, 30), driver=sha256_of(capture))
    manifest = read_manifest(evaluate(render, capture, tmp_path / "report"), "report")
    assert rows_left_out(manifest) == {"nearest_frame", "mean_frame"}
    assert "training is not the one that the avatar was trained on" in manifest["left_out"]["mean_frame"]


def test_the_vae_is_the_avatars_own_or_lies_where_the_render_found_the_base(avatar, tmp_path):
    manifest = read_manifest(avatar, "avatar")
    moved = shutil.copytree(manifest["base"]["path"], tmp_path / "moved")
    render = {"avatar": str(avatar), "avatar_sha256": manifest["manifest_sha256"], "base": {"path": str(moved)}}
    render["settings"] = {"unet": "tuned"}
    assert avatar_vae(render).path.parent == moved / "vae"
    tuned = changed_copy(avatar, "avatar", tmp_path / "tuned", vae_tuned=True)
    shutil.copytree(moved / "vae", tuned / "vae")
    sha256 = read_manifest(tuned, "avatar")["manifest_sha256"]
    render |= {"avatar": str(tuned), "avatar_sha256": sha256}
    assert avatar_vae(render).path.parent == tuned / "vae"
    assert avatar_vae(render | {"settings": {"unet": "base"}}).path.parent == moved / "vae"


def test_a_render_as_reference_is_paired_by_the_drivers_frames(capture, avatar, tmp_path):
    driver = read_manifest(capture, "capture")["manifest_sha256"]
    whole = make_render(tmp_path / "whole", avatar, range(20, 30), held=(6,), shot_starts=(0, 7), driver=driver)
    part = make_render(tmp_path / "part", avatar, range(24, 30), shot_starts=(0, 2), driver=driver)
    manifest = read_manifest(evaluate(part, whole, tmp_path / "report"), "report")
    protocol = manifest["protocol"]
    assert protocol["reference_frames"] == [4, 5, 7, 8, 9]
    assert manifest["frames"]["methods"]["result"] == [0, 1, 3, 4, 5]
    assert manifest["methods"]["result"]["frames_left_out"] == {"not rendered, since the driver has no face": 1}
    # The same pictures, coded without loss.
    assert manifest["scores"]["result"]["full"]["psnr_infinite"] == 5
    assert manifest["reference"]["kind"] == "render"
    assert rows_left_out(manifest) == {"nearest_frame", "mean_frame", "face", "person"}
    # The other way round, frames of the subject are missing in the reference.
    pairs = pair_frames(open_source(whole), open_source(part))
    assert pairs.subject.tolist() == [4, 5, 7, 8, 9] and pairs.reference.tolist() == [0, 1, 3, 4, 5]
    assert pairs.left_out["not among the frames of the render part"] == 4
    # The driver itself shows frame n at position n.
    pairs = pair_frames(open_source(capture), open_source(part))
    assert pairs.subject.tolist() == [24, 25, 27, 28, 29] and pairs.reference.tolist() == [0, 1, 3, 4, 5]


def test_renders_of_two_drivers_are_not_paired_by_frame_numbers(avatar, tmp_path):
    first = make_render(tmp_path / "first", avatar, range(0, 4), driver="1" * 64)
    second = make_render(tmp_path / "second", avatar, range(15, 25), driver="2" * 64)
    with pytest.raises(UserError, match=r"has 4 frames .* has 10"):
        pair_frames(open_source(first), open_source(second))


def test_videos_are_recorded_with_their_hash(tmp_path):
    video = write_video(tmp_path / "a.mp4", range(3))
    manifest = read_manifest(evaluate(video, video, tmp_path / "report"), "report")
    assert manifest["methods"]["result"]["source"]["video_sha256"] == sha256_file(video)
    assert manifest["protocol"]["reference"] == sha256_file(video)


def test_means_leave_out_what_is_not_finite_and_count_equal_pictures():
    rows = {"psnr": [np.inf, 30.0, np.nan, 20.0], "mse": [0.0, 0.1, np.nan, 0.2]}
    result = means({"full": {name: np.array(values) for name, values in rows.items()}})["full"]
    assert result == {"psnr": 25.0, "mse": pytest.approx(0.1), "psnr_infinite": 1}
    nothing = means({"full": {"psnr": np.array([np.inf, np.inf])}})["full"]
    assert np.isnan(nothing["psnr"]) and nothing["psnr_infinite"] == 2


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("size", "64 x 64 pixels.*128 x 128.*resizing would change"),
        ("count", "12 frames .*30 .*held-out part"),
        ("too short", "frames up to 29.*has only 10"),
        ("rate", "50 frames/s.*25"),
        ("exists", "add --force"),
        ("no such", "no such render, capture or video file"),
        ("no kind", "no finished render or capture"),
        ("no pictures", r"has no frames/000024\.png"),
        ("a picture short", r"has no frames/000029\.png"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(case, message, capture, avatar, tmp_path):
    out, subject, reference = tmp_path / "report", tmp_path / "subject", capture
    if case == "size":
        subject, reference = capture, make_capture(tmp_path / "big", 4, size=128)
    elif case == "count":
        subject = write_video(tmp_path / "a.mp4", range(12))
    elif case == "too short":
        make_render(subject, avatar, range(24, 30))
        reference = make_capture(tmp_path / "short", 10)
    elif case == "rate":
        make_render(subject, avatar, range(24, 30), rate=Fraction(50))
    elif case == "exists":
        subject = capture
        out.mkdir()
        (out / "note.txt").write_text("mine")
    elif case == "no kind":
        subject.mkdir()
    elif case == "no pictures":
        make_render(subject, avatar, range(24, 30))
        shutil.rmtree(subject / "frames")
    elif case == "a picture short":
        make_render(subject, avatar, range(24, 30), shown=range(5))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message) as error:
        evaluate(subject, reference, out)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_force_replaces_a_report(capture, tmp_path):
    out = tmp_path / "report"
    out.mkdir()
    (out / "note.txt").write_text("mine")
    write_manifest(out, "report", {})  # one of before
    evaluate(capture, capture, out, force=True)
    files = ["contact_sheet.png", "frames.csv", "metrics.json", "report.html", "table.md", "table.tex"]
    assert sorted(path.name for path in out.iterdir()) == files


class TestSeveralMethods:
    @pytest.fixture(scope="class")
    def compared(self, capture, avatar, tmp_path_factory):
        """A render of four frames of the held-out part, one of all six, and a video of it."""
        folder = tmp_path_factory.mktemp("several")
        driver = sha256_of(capture)
        exact = make_render(folder / "exact", avatar, range(24, 28), driver=driver)
        late = make_render(folder / "late", avatar, range(24, 30), shown=range(23, 29), driver=driver)
        video = write_video(folder / "video.mp4", range(24, 30))
        return evaluate([exact, late, video], capture, folder / "report")

    def test_all_are_scored_on_the_frames_that_all_show(self, compared):
        manifest = read_manifest(compared, "report")
        assert list(manifest["methods"]) == ["exact", "late", "video"]
        assert manifest["frames"]["reference"] == [24, 25, 27]
        assert manifest["frames"]["methods"] == {"exact": [0, 1, 3], "late": [0, 1, 3], "video": [0, 1, 3]}
        assert manifest["frames"]["follows"] == [False, True, False]
        left_out = {name: method["frames_left_out"] for name, method in manifest["methods"].items()}
        assert left_out["late"] == {"no face in the capture capture": 1, "not shown by every method": 2}
        assert left_out["exact"] == {"no face in the capture capture": 1}
        scores = manifest["scores"]
        assert scores["exact"]["full"]["psnr"] > scores["video"]["full"]["psnr"] > scores["late"]["full"]["psnr"]

    def test_equal_protocols_have_equal_hashes(self, compared):
        """The video was decoded from a lossy file."""
        manifest = read_manifest(compared, "report")
        hashes = [method["protocol_sha256"] for method in manifest["methods"].values()]
        assert hashes[0] == hashes[1] == manifest["protocol_sha256"] != hashes[2]
        assert "video: its pictures come from a video file" in summary(compared)
        text = (compared / "table.md").read_text()
        assert "video †" in text and "exact †" not in text

    def test_differences_are_of_each_two(self, compared):
        found = read_manifest(compared, "report")["differences"]
        (one,) = [
            each
            for each in found
            if (each["metric"], each["region"], each["a"], each["b"]) == ("mse", "full", "exact", "late")
        ]
        per_frame = read_manifest(compared, "report")["per_frame"]
        apart = np.subtract(per_frame["exact"]["full"]["mse"], per_frame["late"]["full"]["mse"])
        assert one["difference"] == pytest.approx(apart.mean()) and one["low"] <= one["difference"] <= one["high"] < 0
        assert {(each["a"], each["b"]) for each in found} == {("exact", "late"), ("exact", "video"), ("late", "video")}

    def test_names(self):
        assert method_names([Path("a/render")]) == ["result"]
        assert method_names([Path("a/render"), Path("b")]) == ["render", "b"]
        assert method_names([Path("a/render"), Path("b/render")]) == ["a/render", "b/render"]
        # A folder's name has no suffix, and a row of the report is no method.
        assert method_names([Path("strength_0.3"), Path("strength_0.6")]) == ["strength_0.3", "strength_0.6"]
        assert method_names([Path("a/mean_frame"), Path("a/b")]) == ["a/mean_frame", "a/b"]
        with pytest.raises(UserError, match="a/render is given twice"):
            method_names([Path("a/render"), Path("a/render")])

    def test_names_of_files(self, tmp_path):
        files = [tmp_path / "x" / name for name in ("a.mp4", "a.mkv", "b.mp4")]
        (tmp_path / "x").mkdir()
        for file in files:
            file.touch()
        assert method_names(files) == ["a.mp4", "a.mkv", "b.mp4"]
        assert method_names(files[1:]) == ["a", "b"]

    def test_methods_without_a_common_frame(self, capture, avatar, tmp_path):
        driver = sha256_of(capture)
        renders = [
            make_render(tmp_path / name, avatar, frames, driver=driver)
            for name, frames in (("first", range(24, 26)), ("second", range(27, 30)))
        ]
        with pytest.raises(UserError, match="first and second show no frame of the reference together; score them one"):
            evaluate(renders, capture, tmp_path / "report")


def test_what_is_not_asked_for_is_left_out(capture, tmp_path):
    manifest = read_manifest(evaluate(capture, capture, tmp_path / "report", metrics=("motion",)), "report")
    assert manifest["scores"]["result"]["full"].keys() == {"tof", "warping_error"}
    assert manifest["left_out"]["psnr"] == manifest["left_out"]["lpips_alex"] == "not among --metrics"


def test_weights_that_are_not_there_are_a_reason_with_the_command(capture, tmp_path, monkeypatch):
    monkeypatch.setenv("SVP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path))
    manifest = read_manifest(evaluate(capture, capture, tmp_path / "report"), "report")
    for name in ("lpips_alex", "lpips_vgg", "tlpips_alex", "fid", "kid", "landmark_distance", "parsing_agreement"):
        assert "svp assets --fetch" in manifest["left_out"][name], name
        assert all(name not in values for regions in manifest["scores"].values() for values in regions.values())
    assert "licence" in manifest["left_out"]["identity"] and "TorchScript" in manifest["left_out"]["fvd"]


def test_one_frame(tmp_path):
    video = write_video(tmp_path / "a.mp4", range(1))
    manifest = read_manifest(evaluate(video, video, tmp_path / "report"), "report")
    result = manifest["scores"]["result"]["full"]
    assert result["mse"] == 0 and result["smoothness"] is None and result["psnr_infinite"] == 1


def test_black_videos(tmp_path):
    path = tmp_path / "black.mp4"
    with VideoWriter(path, RATE, 64, 64, crf=0) as video:
        for _ in range(3):
            video.write(np.zeros((64, 64, 3), np.uint8))
    result = read_manifest(evaluate(path, path, tmp_path / "report"), "report")["scores"]["result"]["full"]
    assert result["ssim"] == 1 and result["psnr"] is None and result["psnr_infinite"] == 3 and result["tof"] == 0


def test_a_mask_that_is_empty_on_some_frames(tmp_path):
    folder = make_capture(tmp_path / "capture", 6)
    write_png(folder / "parsing" / "000002.png", np.zeros((64, 64, 3), np.uint8))
    manifest = read_manifest(evaluate(folder, folder, tmp_path / "report"), "report")
    ssim = manifest["per_frame"]["result"]["face"]["ssim"]
    assert [value is None for value in ssim] == [False, False, True, False, False, False]
    assert manifest["scores"]["result"]["face"]["ssim"] == 1


def test_a_video_that_breaks_off(tmp_path):
    path = write_video(tmp_path / "a.mp4", range(12))
    data = path.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(UserError, match=r"broken\.mp4"):
        evaluate(tmp_path / "broken.mp4", path, tmp_path / "report")
    assert not (tmp_path / "report").exists() and not (tmp_path / "report.partial").exists()


def test_nothing_that_could_be_measured_is_refused_with_the_reason(tmp_path):
    video = write_video(tmp_path / "a.mp4", range(3))
    with pytest.raises(UserError, match=r"nothing can be measured: .* 161 x 161"):
        evaluate(video, video, tmp_path / "report", metrics=("scales",))
    assert list(tmp_path.iterdir()) == [video]
    report = evaluate(video, video, tmp_path / "report", metrics=("scales", "pictures"))
    assert "161 x 161" in read_manifest(report, "report")["left_out"]["ms_ssim"]
    assert "161 x 161" in summary(report) and " inf " in summary(report)


class Distance:
    """Stands for LPIPS."""

    net, smallest = "alex", 8

    def __init__(self, sha256="0"):
        self.sha256 = {"weights": sha256}

    def features(self, images):
        return [images.mean(axis=(1, 2))]

    def distance(self, features, others):
        return np.abs(features[0] - others[0]).sum(axis=1)


class Features:
    """Stands for Inception."""

    sha256 = "no weights"

    def features(self, images):
        return np.tile(images.mean(axis=(1, 2)), (1, 683))[:, :2048].astype(np.float32)


@pytest.fixture
def with_networks(monkeypatch):
    def using(sha256):
        monkeypatch.setattr(measured, "open_lpips", lambda net: Distance(sha256))
        monkeypatch.setattr(measured, "open_inception", Features)

    return using


def test_networks_are_in_the_report(with_networks, tmp_path):
    with_networks("0")
    first, second = (write_video(tmp_path / f"{start}.mp4", range(start, start + 6)) for start in (0, 1))
    settings = {"metrics": ("lpips_alex", "distribution")}
    report = evaluate([first, second], first, tmp_path / "report", **settings)
    manifest = read_manifest(report, "report")
    exact, other = (manifest["scores"][name]["full"] for name in ("0", "1"))
    assert exact["lpips_alex"] == 0 < other["lpips_alex"] and exact["fid"] == pytest.approx(0, abs=1e-6)
    assert {"fid", "kid", "kid_error", "tlpips_alex"} <= other.keys()
    assert manifest["protocol"]["networks"] == {"lpips_alex": {"weights": "0"}, "inception": "no weights"}
    assert any(each["metric"] == "lpips_alex" for each in manifest["differences"])
    assert sorted(path.name for path in report.iterdir() if path.is_dir()) == []
    # Other weights are another protocol.
    with_networks("1")
    again = read_manifest(evaluate([first, second], first, tmp_path / "again", **settings), "report")
    assert again["protocol_sha256"] != manifest["protocol_sha256"]


@pytest.fixture
def with_tracker(monkeypatch, tmp_path):
    """A tracker that sees one face everywhere, and a parser that gives a picture's red; the open ones are noted."""
    files = {"tracker": tmp_path / "face_landmarker.task", "parser": tmp_path / "parser.tflite"}
    for name, path in files.items():
        path.write_text(name)
    opened = []

    @contextlib.contextmanager
    def tracker():
        opened.append("tracker")
        landmarks = np.random.default_rng(0).uniform(0, 64, (478, 3)).astype(np.float32)
        face = Face(landmarks, np.zeros(52, np.float32), np.eye(4, dtype=np.float32))
        yield SimpleNamespace(detect=lambda picture, seconds: [face])
        opened.remove("tracker")

    @contextlib.contextmanager
    def parser(height, width):
        if height != width:
            raise UserError("it needs square pictures")
        opened.append("parser")
        yield None, (files["parser"],)
        opened.remove("parser")

    monkeypatch.setattr(measured, "find_model", lambda name: files["tracker"])
    monkeypatch.setattr(measured, "face_tracker", tracker)
    monkeypatch.setattr(measured, "picture_parser", parser)
    monkeypatch.setattr(measured, "parse_picture", lambda parser, picture, landmarks: picture[..., 0] // 128)
    return opened


def test_trackers_and_parser_are_opened_for_all_rows_and_closed(with_tracker, tmp_path, monkeypatch):
    seen, score = [], measured.score
    monkeypatch.setattr(measured, "score", lambda *all: (seen.append(sorted(with_tracker)), score(*all)))
    first, second = (write_video(tmp_path / f"{start}.mp4", range(start, start + 4)) for start in (0, 9))
    report = evaluate([first, second], first, tmp_path / "report", metrics=("tracking",))
    # One for the reference and each of the two.
    assert seen == [["parser", "tracker", "tracker", "tracker"]] and with_tracker == []
    manifest = read_manifest(report, "report")
    exact, other = (manifest["scores"][name]["full"] for name in ("0", "9"))
    assert exact["faces_missing"] == exact["landmark_distance"] == exact["landmark_jitter"] == 0
    assert exact["parsing_agreement"] == 1 > other["parsing_agreement"]
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("tracker", "parser")}
    assert manifest["protocol"]["networks"] == {
        "tracker": {"face_landmarker.task": hashes["tracker"]},
        "parser": {"parser.tflite": hashes["parser"]},
    }


def test_without_a_parser_the_tracking_is_left(with_tracker, tmp_path):
    video = tmp_path / "a.mp4"
    with VideoWriter(video, RATE, 96, 64) as writer:
        for number in range(4):
            writer.write(np.tile(draw_frame(number, 64)[0], (1, 2, 1))[:, :96])
    manifest = read_manifest(evaluate(video, video, tmp_path / "report", metrics=("tracking",)), "report")
    assert manifest["left_out"]["parsing_agreement"] == "it needs square pictures"
    assert manifest["scores"]["result"]["full"].keys() >= {"landmark_distance", "faces_missing"}
    assert "parsing_agreement" not in manifest["scores"]["result"]["full"] and with_tracker == []


@pytest.mark.parametrize("change", ["cuts", "frames", "versions", "reference"])
def test_what_decides_on_numbers_is_in_the_hash(change, tmp_path, monkeypatch):
    def protocol(name, **settings):
        folder = make_capture(tmp_path / name, 8, **settings)
        return read_manifest(evaluate(folder, folder, tmp_path / f"report_{name}", metrics=("pictures",)), "report")

    usual = protocol("usual", cuts=(4,))
    if change == "versions":
        monkeypatch.setattr(protocol_module, "VERSIONS", ("svp_jax",))
    settings = {"cuts": {"cuts": (5,)}, "frames": {"cuts": (4,), "without_face": (7,)}, "reference": {"cuts": (3,)}}
    other = protocol("other", **settings.get(change, {"cuts": (4,)}))
    assert other["protocol_sha256"] != usual["protocol_sha256"]
    if change == "cuts":
        assert other["protocol"]["smoothness_pairs"] == usual["protocol"]["smoothness_pairs"]
        assert other["protocol"]["follows"] != usual["protocol"]["follows"]
