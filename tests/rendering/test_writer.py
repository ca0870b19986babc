"""The videos of a render: one picture for each frame of the span, held where nothing was rendered."""

import av
import numpy as np
import pytest
from factories import RISE
from PIL import Image

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import caption, read_png
from svp_jax.errors import UserError
from svp_jax.rendering.driver import of_capture
from svp_jax.rendering.writer import CAPTION_HEIGHT, COMMENT, RenderWriter


@pytest.fixture(scope="module")
def driver(driver_folder):
    return of_capture(open_capture(driver_folder))


def flat(level):
    """One grey picture, which h264 keeps to within a level or two."""
    return np.full((1, 64, 64, 3), level, np.uint8)


def read_video(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_pictures_are_held(driver, tmp_path):
    with RenderWriter(tmp_path, driver, range(2, 10), result=True, keep_maps=True) as writer:
        writer.write(np.array([3, 4]), np.concatenate([flat(50), flat(60)]), np.concatenate([flat(80), flat(120)]))
        writer.write(np.array([7]), flat(70), flat(200))
        writer.finish()
    levels = read_video(tmp_path / "avatar.mp4").mean(axis=(1, 2, 3))
    # Frame 2 comes before any picture; 5 and 6 hold frame 4's; 8 and 9 hold frame 7's.
    # Video has 219 levels for 255, so that 120 comes back as 119, and h264 may lose another.
    np.testing.assert_allclose(levels, [0, 80, 120, 120, 120, 200, 200, 200], atol=2)
    assert sorted(path.name for path in (tmp_path / "parsing").iterdir()) == [
        "000003.png",
        "000004.png",
        "000007.png",
    ]
    assert (read_png(tmp_path / "parsing" / "000007.png") == 70).all()
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [
        f"{frame:06d}.png" for frame in range(2, 10)
    ]
    for frame, level in enumerate([0, 80, 120, 120, 120, 200, 200, 200], start=2):
        assert (read_png(tmp_path / "frames" / f"{frame:06d}.png") == level).all()


def test_side_by_side_shows_driver_maps_and_result(driver, tmp_path):
    with RenderWriter(tmp_path, driver, range(3, 5), result=True, keep_maps=False) as writer:
        writer.write(np.array([3, 4]), np.concatenate([flat(50), flat(60)]), np.concatenate([flat(80), flat(120)]))
        writer.finish()
    frames = read_video(tmp_path / "side_by_side.mp4")
    assert frames.shape == (2, CAPTION_HEIGHT + 64, 4 * 64, 3)
    panels = np.split(frames[1, CAPTION_HEIGHT:].astype(float), 4, axis=1)
    expected = [driver.capture.frames([4])[0], driver.geometry([4])[0], flat(60)[0], flat(120)[0]]
    for panel, image in zip(panels, expected, strict=True):
        assert np.abs(panel - image).mean() < 8
    assert not (tmp_path / "parsing").exists()


def test_maps_alone(driver, tmp_path):
    with RenderWriter(tmp_path, driver, range(3, 5), result=False, keep_maps=True) as writer:
        writer.write(np.array([3, 4]), np.concatenate([flat(50), flat(60)]), None)
        writer.finish()
    assert not (tmp_path / "avatar.mp4").exists() and not (tmp_path / "frames").exists()
    assert read_video(tmp_path / "side_by_side.mp4").shape == (2, CAPTION_HEIGHT + 64, 3 * 64, 3)


@pytest.mark.parametrize("name", ["avatar.mp4", "side_by_side.mp4"])
def test_rate_sound_and_tag(driver, tmp_path, name):
    with RenderWriter(tmp_path, driver, range(3, 11), result=True, keep_maps=False) as writer:
        writer.write(np.array([4]), flat(50), flat(80))
        writer.finish()
    with av.open(str(tmp_path / name)) as container:
        assert container.metadata["comment"] == COMMENT
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == driver.frame_rate and video.frames == 8
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert sound.codec_context.name == "aac"
        sound = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    # Cut to the span, to within one packet of 1024 samples at each end.
    length = sum(len(samples) for _, samples in sound)
    assert abs(length - 8 * 1001 / 30000 * 16000) <= 2 * 1024
    # What is heard at a time is what the driver has there: its pitch, three frames from the start.
    time, samples = sound[len(sound) // 2]
    pitch = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * 16000 / len(samples)
    middle = time + len(samples) / 2 / 16000 + 3 * 1001 / 30000
    # To one line of the spectrum; a frame is 167 Hz.
    assert pitch == pytest.approx(RISE[0] + RISE[1] * middle, abs=16000 / len(samples))


def test_an_error_leaves_no_video(driver, tmp_path):
    with (
        pytest.raises(RuntimeError, match="stop"),
        RenderWriter(tmp_path, driver, range(3, 5), result=True, keep_maps=False) as writer,
    ):
        writer.write(np.array([3]), flat(50), flat(80))
        raise RuntimeError("stop")
    assert list(tmp_path.glob("*.mp4")) == []


def test_an_error_while_opening_closes_what_is_open(driver, tmp_path):
    (tmp_path / "side_by_side.partial.mp4").mkdir()
    with pytest.raises(UserError, match=r"side_by_side\.mp4: cannot write"):
        RenderWriter(tmp_path, driver, range(3, 5), result=True, keep_maps=False)
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["side_by_side.partial.mp4"]


@pytest.mark.parametrize("width", [64, 128, 512])
def test_captions_fit(width):
    image = caption("reference", width, CAPTION_HEIGHT)
    assert image.shape == (CAPTION_HEIGHT, width, 3)
    columns = np.flatnonzero(image.any(axis=(0, 2)))
    assert columns[0] >= 2 and columns[-1] < width - 2, "the text touches the edge"
    assert len(columns) > 30


def test_pictures_say_that_they_are_ai_generated(driver, tmp_path):
    with RenderWriter(tmp_path, driver, range(3, 4), result=True, keep_maps=False) as writer:
        writer.write(np.array([3]), flat(50), flat(80))
        writer.finish()
    with Image.open(tmp_path / "frames" / "000003.png") as picture:
        picture.load()
        assert picture.text == {"Comment": COMMENT} and np.asarray(picture).mean() == 80


def test_a_label_in_the_video_alone(driver, tmp_path):
    with RenderWriter(tmp_path, driver, range(3, 4), result=True, keep_maps=False, label=True) as writer:
        writer.write(np.array([3]), flat(50), flat(80))
        writer.finish()
    (picture,) = read_video(tmp_path / "avatar.mp4")
    corner, rest = picture[48:, :].astype(int), picture[:40].astype(int)
    assert corner.max() > 180 and corner.min() < 40 and np.abs(rest - 80).max() < 12
    assert (read_png(tmp_path / "frames" / "000003.png") == 80).all()
