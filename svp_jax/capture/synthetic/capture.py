"""Synthetic captures: a procedural talking head with exact tracking, under any look."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, CaptureWriter, check_size, open_capture
from svp_jax.capture.synthetic.canvas import pinhole
from svp_jax.capture.synthetic.head import render_head
from svp_jax.capture.synthetic.looks import (
    NAMED_LOOKS,
    Look,
    describe,
    describe_named,
    random_look,
    random_scene,
    scene_from_json,
)
from svp_jax.capture.synthetic.mesh import PIVOT, rotation
from svp_jax.capture.synthetic.motion import Motion, motion_track
from svp_jax.errors import UserError
from svp_jax.manifest import staged_folder

BLENDSHAPES = ("jaw_open", "smile", "pucker", "brow_raise", "blink_right", "blink_left", "gaze_x", "gaze_y")


def write_synthetic_capture(
    out: Path,
    seed: int,
    seconds: float,
    frame_rate: Fraction | str | int = 25,
    size: int = 256,
    look: Look | None = None,
    name: str | None = None,
    test_fraction: float = 0.2,
    force: bool = False,
) -> Capture:
    """Renders a talking head into the capture folder `out`, with ground-truth tracking and a caption.

    Args:
        seed: of motion, scene and (where none is given) look.
        seconds: length; `frame_rate` frames each.
        size: of the square images, a multiple of 64.
        look: the person; by default `name`'s, or a random one that has no name.
        name: one of `NAMED_LOOKS`; the caption then gives the name alone.
        force: replace a finished `out`.

    Raises:
        UserError: a bad size, length or name, or `out` is taken.
    """
    check_size(size)
    rate = Fraction(frame_rate)
    count = round(seconds * rate)
    if count < 1 or rate <= 0:
        raise UserError(f"a synthetic capture of {seconds} s at {rate} frames/s has no frames; ask for more")
    if name is not None:
        look = named_look(name) if look is None else look
    # Streams of their own, so that a look given by hand leaves motion and scene as they are.
    streams = [np.random.default_rng([seed, part]) for part in range(4)]
    look = random_look(streams[0]) if look is None else look
    scene, motions = random_scene(streams[1]), motion_track(streams[2], count, rate)
    focal, centre = pinhole(scene, size)
    caption = describe_named(name, scene, seed) if name else describe(look, scene, seed)
    with staged_folder(out, "capture", force) as folder:
        writer, landmarks = CaptureWriter(folder, size), []
        for motion in motions:
            image = render_head(look, motion, scene, size)
            writer.add(image.frame, image.parsing, image.geometry, image.iris)
            landmarks.append(image.landmarks)
        tracking = {
            "landmarks": np.stack(landmarks),
            "shot": np.zeros(count, np.int32),
            "blendshapes": np.array([[getattr(m, field) for field in BLENDSHAPES] for m in motions], np.float32),
            "blendshape_names": np.array(BLENDSHAPES),
            "pose": np.stack([_pose_matrix(motion) for motion in motions]),
        }
        info = {
            "source": {"name": "synthetic", "seed": seed},
            "frame_rate": rate,
            "face_model": "synthetic",
            "parser": "synthetic",
            "test_fraction": test_fraction,
            "prompt": caption,
            "camera": {"focal": focal, "centre": centre},
            "synthetic": {
                "look": dataclasses.asdict(look),
                "name": name,
                "scene": dataclasses.asdict(scene),
                "motion": [dataclasses.asdict(motion) for motion in motions],
            },
        }
        writer.finish(tracking, info)
    return open_capture(out)


def render_look_on_capture(capture: Capture, look: Look | str, indices) -> np.ndarray:
    """The frames that the capture would have if `look` (or the look of that name) had been its person.

    Scene and motion stay. uint8 [n,S,S,3] for n indices.

    Raises:
        UserError: the capture is not synthetic, or no look has that name.
    """
    look = named_look(look) if isinstance(look, str) else look
    parameters = capture.manifest.get("synthetic")
    if parameters is None:
        raise UserError(f"{capture.folder} is not a synthetic capture: another look needs its motion parameters")
    scene = scene_from_json(parameters["scene"])
    motions = [Motion(**parameters["motion"][int(index)]) for index in indices]
    return np.stack([render_head(look, motion, scene, capture.size).frame for motion in motions])


def named_look(name: str) -> Look:
    """The fixed look of an invented name; case does not matter."""
    for known, look in NAMED_LOOKS.items():
        if known.lower() == name.lower():
            return look
    raise UserError(f"no look is called {name!r}; the names are {', '.join(NAMED_LOOKS)}")


def _pose_matrix(motion: Motion) -> np.ndarray:
    """Head to world, in head units: float32 [4,4]."""
    matrix = np.eye(4, dtype=np.float32)
    turn = rotation(motion)
    matrix[:3, :3] = turn
    matrix[:3, 3] = PIVOT - turn @ PIVOT + (motion.x, motion.y, 0)
    return matrix
