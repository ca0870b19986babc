"""Measures whether a rendered face does what drove it: correlations of mouth and eyes over the frames of renders.

    python tools/measure_reenactment.py RENDER ...

The face in each rendered frame is tracked by MediaPipe (enlarged to 512 pixels), and its jawOpen and eyeBlink scores
are compared with those of the driving capture, or with the values of the driving script or file of parameters.
"""

import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from svp_jax.capture.capture import open_capture
from svp_jax.capture.face_track import read_face_track
from svp_jax.capture.images import read_png
from svp_jax.face.control.script import read_script
from svp_jax.face.tracking import face_tracker
from svp_jax.manifest import read_manifest
from svp_jax.process import set_up_process

CHANNELS = {"jawOpen": ("jawOpen",), "blink": ("eyeBlinkLeft", "eyeBlinkRight")}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for render in map(Path, sys.argv[1:]):
        manifest = read_manifest(render, "render")
        seen, found = _tracked(render, manifest)
        wanted = _driven(manifest)
        print(f"{render}: a face in {found.sum()} of {len(found)} frames")
        for name, values in wanted.items():
            correlation = np.corrcoef(seen[name][found], values[found])[0, 1]
            print(f"  {name:8} correlation {correlation:.3f}, driver {values.min():.2f} to {values.max():.2f}")


def _tracked(render: Path, manifest: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(scores [n] by name, bool [n] where a face was found) of the rendered frames."""
    rows, rate = [], Fraction(manifest["frame_rate"])
    with face_tracker() as tracker:
        for number, frame in enumerate(manifest["frames"]):
            picture = read_png(render / "frames" / f"{frame:06d}.png")
            faces = tracker.detect(cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC), float(number / rate))
            rows.append(faces[0].blendshapes if faces else None)
        names = tracker.blendshape_names
    found = np.array([row is not None for row in rows])
    scores = np.array([np.zeros(len(names)) if row is None else row for row in rows])
    return _channels(scores, names), found


def _driven(manifest: dict) -> dict[str, np.ndarray]:
    """Values [n] by name of what drove the rendered frames; names that the driver does not have are left out."""
    driver, frames = Path(manifest["driver"]), manifest["frames"]
    if driver.is_dir():
        tracking = open_capture(driver).tracking()
        return _channels(tracking["blendshapes"][frames], [str(name) for name in tracking["blendshape_names"]])
    if driver.suffix == ".npz":
        track = read_face_track(driver)
        return _channels(np.asarray(track.parameters.expression)[frames], list(track.model().channels))
    # Sampled from time 0, wherever the rendered frames start.
    sampled = read_script(driver).sampled(Fraction(manifest["frame_rate"]), max(frames) + 1)
    return {name: sampled[name][frames] for name in CHANNELS if name in sampled}


def _channels(scores: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Values [n] of `CHANNELS` by name, of scores [n, S] of the S `names`."""
    known = {name: parts for name, parts in CHANNELS.items() if set(parts) <= set(names)}
    return {name: scores[:, [names.index(part) for part in parts]].mean(axis=1) for name, parts in known.items()}


if __name__ == "__main__":
    set_up_process()
    main()
