import json
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from factories import file_size_limit, write_rising_tone
from hypothesis import given
from hypothesis import strategies as st

from svp_jax.capture.audio import UncopiedSound, copy_audio
from svp_jax.capture.video import constant_rate_map, nominal_rate, open_video
from svp_jax.capture.video_writer import VideoWriter
from svp_jax.errors import UserError


def pictures(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth pictures whose brightness tells their number."""
    ramp = np.linspace(0, 80, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    return np.stack([(ramp + 5 * number + np.array([0, 20, 40])) for number in range(count)]).astype(np.uint8)


def write(path, images, rate=Fraction(25), **options):
    with VideoWriter(path, rate, images.shape[2], images.shape[1], **options) as writer:
        for image in images:
            writer.write(image)


def samples(path, seconds: float) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [frame for frame in container.decode(stream) if frame.time < seconds]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def test_key_frames_are_no_further_apart_than_asked(tmp_path):
    images = pictures(30)
    for every in (1, 7):
        write(tmp_path / "a.mp4", images, key_frame_every=every)
        with av.open(str(tmp_path / "a.mp4")) as container:
            keys = [frame.key_frame for frame in container.decode(video=0)]
        assert len(keys) == 30
        assert all(any(keys[number : number + every]) for number in range(30 - every + 1))


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "50"])
def test_round_trip_keeps_frames_and_exact_rate(tmp_path, rate):
    images = pictures(12)
    write(tmp_path / "a.mp4", images, Fraction(rate), metadata={"comment": "made here", "svp_seed": "3"})
    video = open_video(tmp_path / "a.mp4")
    assert (video.frame_rate, video.width, video.height, video.zero) == (Fraction(rate), 96, 64, 0)
    times, frames = zip(*video.frames(), strict=True)
    assert len(frames) == 12 and video.damage is None
    np.testing.assert_allclose(times, [float(i / Fraction(rate)) for i in range(12)], atol=1e-4)
    assert (constant_rate_map(np.array(times), video.frame_rate) == np.arange(12)).all()
    assert np.abs(np.stack(frames).astype(int) - images).mean() < 2
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == "made here" and container.metadata["svp_seed"] == "3"
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p"
        assert {context.colorspace, context.color_primaries, context.color_trc, context.color_range} == {1}


def test_part_of_a_video(tmp_path):
    write(tmp_path / "a.mp4", pictures(20))
    times = [time for time, _ in open_video(tmp_path / "a.mp4").frames(0.2, 0.4)]
    np.testing.assert_allclose(times, [0.2, 0.24, 0.28, 0.32, 0.36])


def test_odd_sizes_are_padded(tmp_path):
    images = pictures(3, 65, 97)
    write(tmp_path / "a.mp4", images)
    _, frame = next(open_video(tmp_path / "a.mp4").frames())
    assert frame.shape == (66, 98, 3)
    assert np.abs(frame[:65, :97].astype(int) - images[0]).mean() < 2


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", Fraction(25), 96, 64) as writer:
        writer.write(pictures(1)[0])
        raise RuntimeError("interrupted")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="cannot write"):
        VideoWriter(tmp_path / "no_folder" / "a.mp4", Fraction(25), 96, 64)
    with pytest.raises(UserError, match=r"gone\.wav: cannot read the sound"):
        VideoWriter(tmp_path / "a.mp4", Fraction(25), 96, 64, audio=tmp_path / "gone.wav")


def test_wrong_frames_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=r"expected uint8 \(64, 96, 3\)"),
        VideoWriter(tmp_path / "a.mp4", Fraction(25), 96, 64) as writer,
    ):
        writer.write(pictures(1, 32, 96)[0])


@pytest.mark.parametrize("turns, matrix", [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_rotation_in_the_header_is_applied(tmp_path, turns, matrix):
    images = pictures(2)
    write(tmp_path / "a.mp4", images)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    # The track header's matrix (version 0) starts 44 bytes after its name, in 16.16 fixed point.
    start = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    video = open_video(tmp_path / "turned.mp4")
    _, frame = next(video.frames())
    assert frame.shape == (video.height, video.width, 3)
    expected = np.rot90(images[0], turns).astype(int)
    assert np.abs(frame - expected).mean() < 2


def test_sound_is_copied_and_aligned(tmp_path, shared):
    source = shared / "videos" / "hdtf_a.mp4"
    images = pictures(50)
    write(tmp_path / "whole.mp4", images, audio=source)
    whole, original = samples(tmp_path / "whole.mp4", 1.9), samples(source, 1.9)
    length = min(whole.shape[1], original.shape[1])
    assert length > 1.8 * 16000
    # The packet before 0, which primes the decoder, is left out: the first packet alone differs.
    np.testing.assert_array_equal(whole[:, 1024:length], original[:, 1024:length])
    with av.open(str(tmp_path / "whole.mp4")) as container:
        stream = container.streams.audio[0]
        # To a sample: the last packet, 64 ms, is copied whole, but its time ends with the video.
        assert stream.duration * stream.time_base == 2

    assert copy_audio(source, tmp_path / "part.mka", 1.0, 2.0)
    with av.open(str(tmp_path / "part.mka")) as container:
        part = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        wanted = [p for p in packets if 1.0 <= p.pts * p.time_base < 2.0]
        assert [bytes(p) for p in part] == [bytes(p) for p in wanted]
        assert float(part[0].pts * part[0].time_base) == pytest.approx(
            float(wanted[0].pts * wanted[0].time_base) - 1, abs=1e-6
        )


def test_sound_that_mp4_cannot_carry_is_encoded(tmp_path, shared):
    source = shared / "audio" / "RD_Radio31_000.wav"
    write(tmp_path / "a.mp4", pictures(50), audio=source, audio_start=1.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    copied, original = samples(tmp_path / "a.mp4", 1.9)[0], samples(source, 8)[0, ::2] / 32768
    expected = original[16000 : 16000 + len(copied)]
    assert np.corrcoef(copied, expected)[0, 1] > 0.95
    assert np.corrcoef(copied[100:], expected[:-100])[0, 1] < 0.8


@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_times_count_from_the_first_frame(tmp_path, shared, name):
    """Transport streams, and what was cut out of a longer recording, start anywhere."""
    with av.open(str(shared / "videos" / "hdtf_a.mp4")) as source, av.open(str(tmp_path / name), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.pts += round(10 / packet.time_base)
                packet.dts += round(10 / packet.time_base)
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    video = open_video(tmp_path / name)
    assert video.zero == 10
    times = [time for time, _ in video.frames(0.2, 0.4)]
    np.testing.assert_allclose(times, [0.2, 0.24, 0.28, 0.32, 0.36], atol=1e-6)

    start = float(video.zero) + 1
    assert copy_audio(video.path, tmp_path / "shifted.mka", start, start + 1)
    assert copy_audio(shared / "videos" / "hdtf_a.mp4", tmp_path / "straight.mka", 1, 2)
    shifted, straight = (samples(tmp_path / f"{which}.mka", 2) for which in ("shifted", "straight"))
    np.testing.assert_array_equal(shifted[:, 1024:], straight[:, 1024:])


def test_expected_frames_are_those_of_the_part(shared):
    video = open_video(shared / "videos" / "hdtf_a.mp4")
    assert video.expected(0, float("inf")) == 200
    assert video.expected(1, 2) == 25 and video.expected(7, 20) == 25 and video.expected(9, 10) == 0


def write_pcm(path, seconds=2.0, rate=22050):
    """A rising sine in a wav, and its samples."""
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return wave


def test_sound_that_is_encoded_is_complete(tmp_path):
    wave = write_pcm(tmp_path / "tone.wav")
    write(tmp_path / "a.mp4", pictures(60), audio=tmp_path / "tone.wav")
    assert samples(tmp_path / "a.mp4", 9).shape[1] >= len(wave)


def test_damaged_sound_ends_where_it_breaks(tmp_path, monkeypatch):
    """As a decoder does that meets a broken packet of Vorbis or PCM."""
    write_pcm(tmp_path / "tone.wav")
    decode = av.container.InputContainer.decode

    class Broken:
        """A container whose decoding fails after the first frames."""

        def __init__(self, container):
            self.container = container

        def __getattr__(self, name):
            return getattr(self.container, name)

        def decode(self, stream):
            for number, frame in enumerate(decode(self.container, stream)):
                if number == 5:
                    raise av.error.InvalidDataError(1, "Invalid data found")
                yield frame

    original = av.open

    def opened(path, *arguments, **options):
        container = original(path, *arguments, **options)
        return Broken(container) if path.endswith(".wav") else container

    monkeypatch.setattr(av, "open", opened)
    write(tmp_path / "a.mp4", pictures(50), audio=tmp_path / "tone.wav")
    monkeypatch.undo()
    assert 0 < samples(tmp_path / "a.mp4", 9).shape[1] < 22050
    assert open_video(tmp_path / "a.mp4").announced == 50


@pytest.mark.parametrize("limit", [100, 3000])
def test_a_disk_that_fills_up_leaves_no_file(tmp_path, limit):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8)
    with file_size_limit(limit), pytest.raises(UserError, match=r"a\.mp4: cannot write \(File too large\)"):
        write(tmp_path / "a.mp4", noise)
    assert list(tmp_path.iterdir()) == []


def test_no_sound_no_file(tmp_path, shared):
    assert not copy_audio(shared / "videos" / "lp_d0.mp4", tmp_path / "a.mka", 0, 1)
    assert not copy_audio(shared / "videos" / "hdtf_a.mp4", tmp_path / "a.mka", 100, 101)
    assert list(tmp_path.iterdir()) == []


def test_variable_rate_agrees_with_the_truth(shared):
    video = open_video(shared / "videos" / "hard" / "variable_rate.mkv")
    truth = json.loads((shared / "videos" / "hard" / "variable_rate.json").read_text())
    times = np.array([time for time, _ in video.frames()])
    np.testing.assert_allclose(times * 1000, truth["pts_ms"], atol=1e-6)
    original = np.array(truth["lp_d0_frame"])
    frame_map = constant_rate_map(times, Fraction(25))
    # lp_d0 has 78 frames; each slot shows the last of them that was not dropped.
    assert len(frame_map) == 78
    assert [original[index] for index in frame_map] == [original[original <= slot].max() for slot in range(78)]


@given(
    st.sampled_from(["24000/1001", "25", "30000/1001", "60"]).map(Fraction),
    st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=60),
    st.floats(-5, 5),
)
def test_jitter_below_half_a_slot_maps_one_to_one(rate, shifts, start):
    shifts[0] = 0.0
    times = start + np.array([(index + shift) / rate for index, shift in enumerate(shifts)], float)
    assert constant_rate_map(times, rate).tolist() == list(range(len(shifts)))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_map_shows_what_is_on_screen(gaps):
    times = np.concatenate([[0], np.cumsum(gaps)]) / 1000
    frame_map = constant_rate_map(times, Fraction(25))
    assert frame_map[0] >= 0 and (np.diff(frame_map) >= 0).all()
    # The last frame is shown, but where the middle of the last slot is its very time.
    assert frame_map[-1] == len(times) - 1 or abs(times[-1] - (len(frame_map) - 0.5) * 0.04) < 1e-9
    for slot, index in enumerate(frame_map):
        middle = (slot + 0.5) * 0.04
        assert times[index] <= middle + 1e-9
        assert index + 1 == len(times) or times[index + 1] > middle - 1e-9


def test_half_the_rate_leaves_every_second_frame_out():
    assert constant_rate_map(np.arange(9) / 50, Fraction(25)).tolist() == [1, 3, 5, 7, 8]


def test_truncated_gives_its_frames_and_a_warning(shared):
    video = open_video(shared / "videos" / "hard" / "truncated.mp4")
    with pytest.warns(UserWarning, match=r"truncated\.mp4 is damaged .*: 93 of 200 frames could be read"):
        assert sum(1 for _ in video.frames()) == 93
    assert "93 of 200" in video.damage


@pytest.mark.parametrize("name", ["not_a_video.mp4", "truncated_no_index.mp4", "variable_rate.json"])
def test_what_is_no_video_is_refused(shared, name):
    with pytest.raises(UserError, match=f"{name} cannot be read as a video"):
        open_video(shared / "videos" / "hard" / name)


def test_no_file_and_no_pictures(tmp_path, shared):
    with pytest.raises(UserError, match="no such video file"):
        open_video(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match="has no video stream"):
        open_video(shared / "audio" / "RD_Radio31_000.wav")


def write_at(path, times, container_rate, step: Fraction) -> None:
    """A video whose frames are shown at `times`, in units of `step` seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if path.suffix == ".mp4" else "libvpx", rate=container_rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = step
        for time, image in zip(times, pictures(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, step
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_rate_that_jitters_is_not_taken_for_a_multiple(tmp_path):
    times = [20 * number + 5 * (number % 7 == 3) for number in range(150)]
    write_at(tmp_path / "a.mp4", times, 30, Fraction(1, 600))
    video = open_video(tmp_path / "a.mp4")
    assert video.frame_rate >= 60, "FFmpeg no longer announces the finest step: nominal_rate may go"
    shown = np.array([time for time, _ in video.frames()])
    assert nominal_rate(shown, video.frame_rate) == 30
    assert constant_rate_map(shown, Fraction(30)).tolist() == list(range(150))


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "30", "60"])
def test_nominal_rate_measures_through_rounding_and_gaps(rate):
    rate, numbers = Fraction(rate), np.delete(np.arange(300), [5, 6, 7, 50, 51, 200])
    times = np.round(1000 * numbers / float(rate)) / 1000
    assert nominal_rate(times, Fraction(240)) == rate
    # What is announced is believed where the frames agree with it more or less, and where there is one frame.
    assert nominal_rate(times, rate * Fraction(11, 10)) == rate * Fraction(11, 10)
    assert nominal_rate(times[:1], Fraction(240)) == 240


def test_a_webm_without_a_rate_is_measured(tmp_path):
    times = [round(1000 * number / 30) for number in range(40)]
    write_at(tmp_path / "a.webm", times, 1000, Fraction(1, 1000))
    video = open_video(tmp_path / "a.webm")
    assert video.frame_rate == 30 and len(list(video.frames())) == 40


def test_sound_of_a_rate_that_aac_lacks_is_resampled(tmp_path):
    rate = 192000
    tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate).astype(np.float32)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone * 32000).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    write(tmp_path / "a.mp4", pictures(25), audio=tmp_path / "a.wav")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.audio[0].codec_context
        assert (context.sample_rate, context.layout.name) == (48000, "mono")
    heard = samples(tmp_path / "a.mp4", 1)[0]
    assert abs(len(heard) - 48000) <= 2048 and np.abs(heard).max() > 0.9


def test_sound_that_mka_cannot_carry_is_left_out_with_a_warning(tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("adpcm_ima_qt", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 64 * 100), np.int16), format="s16p", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UncopiedSound, match=r"a\.mov: its kind of sound cannot be copied"):
        copy_audio(tmp_path / "a.mov", tmp_path / "a.mka", 0, 1)
    assert not (tmp_path / "a.mka").exists()


def test_the_same_sound_is_copied_to_the_same_bytes(tmp_path):
    write_rising_tone(tmp_path / "tone.mka", 1)
    for name in ("a.mka", "b.mka"):
        assert copy_audio(tmp_path / "tone.mka", tmp_path / name, 0.2, 0.8)
    assert (tmp_path / "a.mka").read_bytes() == (tmp_path / "b.mka").read_bytes()


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    """Whatever was in memory before: x264 has read what nobody wrote."""
    rows, columns = np.mgrid[:64, :64]
    images = np.stack(
        [np.stack([3 * columns + 10 * n, 2 * rows, rows + columns + n], -1).astype(np.uint8) for n in range(11)]
    )
    rng, written, kept = np.random.default_rng(0), set(), []
    for _ in range(30):
        write(tmp_path / "a.mp4", images, Fraction(25))
        written.add((tmp_path / "a.mp4").read_bytes())
        # Every second of these is free again, and is not empty.
        kept += [np.full(rng.integers(1, 200_000), 255, np.uint8) for _ in range(40)][::2]
    assert len(written) == 1
