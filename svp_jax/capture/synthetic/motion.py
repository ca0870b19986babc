"""How a synthetic head moves: one pose and expression, random ones, and a talking-head track over time."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Pose and expression of one frame.

    Attributes:
        yaw, pitch, roll: degrees; positive turns to the picture's right, nods down, tilts clockwise as seen.
        x, y: translation in head units (the head is about 2.1 high), right and up.
        jaw_open, pucker, blink_right, blink_left: 0..1 (right and left are the subject's).
        smile, brow_raise: about -0.5 (frown) to 1.
        gaze_x, gaze_y: degrees relative to the head, to the picture's right and up.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0
    y: float = 0.0
    jaw_open: float = 0.0
    smile: float = 0.0
    pucker: float = 0.0
    brow_raise: float = 0.0
    blink_right: float = 0.0
    blink_left: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


def random_motion(rng: np.random.Generator) -> Motion:
    """A random pose and expression."""
    blink = float(rng.choice([0, rng.uniform(0, 0.3), 1.0], p=[0.6, 0.3, 0.1]))
    wink = 1.0 if rng.random() < 0.03 else 0.0
    return Motion(
        yaw=float(np.clip(rng.normal(0, 13), -38, 38)),
        pitch=float(np.clip(rng.normal(0, 7), -18, 18)),
        roll=float(np.clip(rng.normal(0, 5), -15, 15)),
        x=float(rng.normal(0, 0.05)),
        y=float(rng.normal(0, 0.04)),
        jaw_open=float(rng.beta(0.8, 2.2)),
        smile=float(rng.uniform(-0.4, 1.0) * (rng.random() < 0.6)),
        pucker=float(rng.uniform(0, 1) * (rng.random() < 0.25)),
        brow_raise=float(rng.uniform(-0.5, 1.0) * (rng.random() < 0.5)),
        blink_right=max(blink, wink),
        blink_left=blink,
        gaze_x=float(np.clip(rng.normal(0, 9), -25, 25)),
        gaze_y=float(np.clip(rng.normal(0, 5), -14, 14)),
    )


def motion_track(rng: np.random.Generator, frames: int, frame_rate: Fraction | float) -> list[Motion]:
    """A smooth, natural talking-head motion: speech-like jaw and lips, blinks, gaze jumps, nods, slow turns.

    Args:
        frames: their number.
        frame_rate: frames per second.
    """
    rate = float(frame_rate)
    time = np.arange(frames) / rate

    def drift(amplitude: float, slowest: float, fastest: float) -> np.ndarray:
        """A sum of slow sines between two frequencies (Hz)."""
        frequency = np.exp(rng.uniform(np.log(slowest), np.log(fastest), 5))
        phase = rng.uniform(0, 2 * np.pi, 5)
        weight = frequency**-0.5
        waves = np.sin(2 * np.pi * frequency * time[:, None] + phase) @ weight
        return amplitude * waves / np.sqrt((weight**2).sum() / 2)

    speaking = 1 / (1 + np.exp(-6 * (drift(0.6, 0.08, 0.35) + 0.35)))
    syllables = np.abs(drift(0.5, 1.3, 3.2)) * (0.7 + 0.3 * np.tanh(drift(1.0, 0.3, 0.8)))
    nod = speaking * drift(2.0, 0.6, 1.6)
    gaze_x, gaze_y = _gaze(rng, time)
    blink = _blinks(rng, time)
    yaw = drift(11.0, 0.08, 0.5)
    tracks = {
        "yaw": yaw,
        "pitch": drift(5.0, 0.1, 0.5) + nod,
        "roll": drift(3.5, 0.08, 0.45) + 0.1 * yaw,
        "x": drift(0.06, 0.08, 0.45),
        "y": drift(0.04, 0.08, 0.45) - 0.004 * nod,
        "jaw_open": np.clip(speaking * syllables, 0, 0.9),
        "smile": np.clip(drift(0.3, 0.06, 0.3) + 0.18, -0.3, 1.0),
        "pucker": np.clip(speaking * drift(0.4, 0.7, 2.0), 0, 0.9),
        "brow_raise": np.clip(drift(0.25, 0.1, 0.5) + 0.15 * speaking * drift(1.0, 0.5, 1.2), -0.5, 1.0),
        "blink_right": blink,
        "blink_left": blink,
        # The eyes stay on what they look at while the head turns.
        "gaze_x": np.clip(gaze_x - 0.5 * yaw, -26, 26),
        "gaze_y": np.clip(gaze_y, -14, 14),
    }
    return [Motion(**{name: float(values[n]) for name, values in tracks.items()}) for n in range(frames)]


def _gaze(rng: np.random.Generator, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fixations of 0.4 to 2.5 s with jumps of about 40 ms between them, degrees."""
    x, y = np.zeros(len(time)), np.zeros(len(time))
    start, before = 0.0, np.zeros(2)
    while len(time) and start <= time[-1]:
        target = rng.normal(0, (7.0, 3.5)) * (rng.random() < 0.75)
        step = np.clip((time - start) / 0.04, 0, 1)
        after = time >= start
        x[after] = (before[0] + (target[0] - before[0]) * step)[after]
        y[after] = (before[1] + (target[1] - before[1]) * step)[after]
        start, before = start + rng.uniform(0.4, 2.5), target
    return x, y


def _blinks(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Blinks every 1.5 to 5 s: closing in 80 ms, opening in 160 ms."""
    blink = np.zeros(len(time))
    start = rng.uniform(0.5, 3.0)
    while len(time) and start <= time[-1]:
        phase = time - start
        lid = np.minimum(np.clip(phase / 0.08, 0, 1), np.clip(1 - (phase - 0.12) / 0.16, 0, 1))
        blink = np.maximum(blink, lid)
        start += rng.uniform(1.5, 5.0)
    return blink
