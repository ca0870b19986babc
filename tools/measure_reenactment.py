"""Measures whether a rendered face does what drove it: correlations of mouth and eyes over the frames of renders.

    python tools/measure_reenactment.py RENDER ...

The face in each rendered frame is tracked by MediaPipe (enlarged to 512 pixels), and its jawOpen and eyeBlink scores
are compared with those of the driving capture, or with the values of the driving script.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from svp_jax.capture.capture import open_capture
from svp_jax.capture.images import read_png
from svp_jax.face.control.script import read_script
from svp_jax.face.tracking import face_tracker
from svp_jax.manifest import read_manifest

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
    rows = []
    with face_tracker() as tracker:
        for number, frame in enumerate(manifest["frames"]):
            picture = read_png(render / "frames" / f"{frame:06d}.png")
            faces = tracker.detect(cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC), number / 25)
            rows.append(faces[0].blendshapes if faces else None)
        names = tracker.blendshape_names
    found = np.array([row is not None for row in rows])
    scores = np.array([np.zeros(len(names)) if row is None else row for row in rows])
    return _channels(scores, names), found


def _driven(manifest: dict) -> dict[str, np.ndarray]:
    driver = Path(manifest["driver"])
    if driver.is_dir():
        tracking = open_capture(driver).tracking()
        names = [str(name) for name in tracking["blendshape_names"]]
        return _channels(tracking["blendshapes"][manifest["frames"]], names)
    sampled = read_script(driver).sampled(manifest["frame_rate"], len(manifest["frames"]))
    return {name: sampled[name] for name in CHANNELS if name in sampled}


def _channels(scores: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    return {name: scores[:, [names.index(part) for part in parts]].mean(axis=1) for name, parts in CHANNELS.items()}


if __name__ == "__main__":
    main()
