"""Sound and picture of a long video stay together, and the times of its frames are exact."""

from fractions import Fraction

import av
import numpy as np
import pytest

from svp_jax.capture.video_writer import VideoWriter

SIZE = 64
# The header of an mp4 counts in milliseconds where the sound begins, an mka all its times.
CLOSE = Fraction(2, 1000)


def write_clicks(path, sample_rate: int, seconds: float, times) -> None:
    """AAC with a click at each of `times`; the noise below makes every packet another."""
    wave = 0.001 * np.random.default_rng(0).standard_normal(round(seconds * sample_rate), dtype=np.float32)
    click = 0.5 * np.sin(2 * np.pi * 2000 * np.arange(sample_rate // 50) / sample_rate)
    for time in times:
        wave[round(time * sample_rate) :][: len(click)] += click
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=sample_rate, layout="mono", options={"aac_coder": "fast"})
        for start in range(0, len(wave), 1 << 16):
            part = wave[None, start : start + (1 << 16)]
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_flashes(path, rate: Fraction, count: int, flashes, **sound) -> None:
    """Black pictures, white ones at `flashes`."""
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    with VideoWriter(path, rate, SIZE, SIZE, preset="ultrafast", **sound) as writer:
        for number in range(count):
            writer.write(~black if number in flashes else black)


def clicks(path) -> list[float]:
    """When it clicks, in seconds."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.2)
            # A click may last into the next frame.
            if len(loud) and (not found or frame.time > found[-1] + 0.1):
                found.append(frame.time + loud[0] / frame.sample_rate)
    return found


def packets(path) -> list[tuple[Fraction, bytes]]:
    """Presentation time in seconds and bytes of each packet of sound."""
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.size]


def check_picture(path, rate: Fraction, count: int, flashes) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert {stream.average_rate, stream.guessed_rate, stream.base_rate} == {rate}
        assert (stream.frames, stream.start_time, stream.duration * stream.time_base) == (count, 0, count / rate)
        shown = [(f.pts * f.time_base, f.to_ndarray()[:SIZE].mean() > 128) for f in container.decode(stream)]
    assert len(shown) == count and all(time == number / rate for number, (time, _) in enumerate(shown))
    assert [number for number, (_, white) in enumerate(shown) if white] == flashes


def check_sound(path, source, rate: Fraction, first: int, count: int, flashes) -> None:
    """The sound of `path` is `source`'s from frame `first` on, and clicks when the picture flashes."""
    start, stop = first / rate, (first + count) / rate
    inside = [(time - start, data) for time, data in packets(source) if start <= time < stop]
    copied = packets(path)
    assert [data for _, data in copied] == [data for _, data in inside]
    assert max(abs(time - original) for (time, _), (original, _) in zip(copied, inside, strict=True)) < CLOSE
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        end = (stream.start_time + stream.duration) * stream.time_base
    assert abs(end - count / rate) < CLOSE
    np.testing.assert_allclose(clicks(path), [float(number / rate) for number in flashes], rtol=0, atol=float(CLOSE))


@pytest.mark.parametrize(("sample_rate", "name"), [(48000, "sound.m4a"), (44100, "sound.mka")])
def test_sound_and_picture_stay_together_for_ten_minutes(tmp_path, sample_rate, name):
    rate, count = Fraction(30000, 1001), 17982
    flashes = [3, count // 2, count - 3]
    source, path = tmp_path / name, tmp_path / "a.mp4"
    write_clicks(source, sample_rate, float(count / rate) + 1, [number / rate for number in flashes])
    write_flashes(path, rate, count, flashes, audio=source)
    check_picture(path, rate, count, flashes)
    check_sound(path, source, rate, 0, count, flashes)


@pytest.mark.parametrize("first", [0, 37], ids=["whole", "span"])
@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60"])
def test_times_are_exact_at_every_rate(tmp_path, rate, first):
    rate, count = Fraction(rate), 301
    flashes = [20, 150, count - 3]
    source, path = tmp_path / "sound.mka", tmp_path / "a.mp4"
    # Packets of 64 ms: each lasts for more than one frame, at 60 frames/s for four.
    write_clicks(source, 16000, float((first + count) / rate) + 1, [(first + number) / rate for number in flashes])
    write_flashes(path, rate, count, flashes, audio=source, audio_start=float(first / rate))
    check_picture(path, rate, count, flashes)
    check_sound(path, source, rate, first, count, flashes)
