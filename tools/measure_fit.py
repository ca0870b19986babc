"""Measures how well a face model follows captures: errors, correlations with the tracker, jitter, speed.

    python tools/measure_fit.py CAPTURE ... [--face-model ict --face-model-file FILE]

Fits each capture (made by `svp prepare`) twice, the second time without compiling, and prints for it

    error, worst     mean distance of eyes, brows, nose and lips from the tracked ones, in % of the distance between the
                     outer corners of the eyes: over all frames, and of the worst frame
    mouth, eyes      correlation of the fitted face's lip gap and lid gaps with the scores jawOpen and eyeBlink
    jitter           mean |second difference| over the clip's stillest quarter, in pixels: tracked, smoothed, fitted
    frames/s         of the second fit, with the identity

Of a synthetic capture it also prints the error of the pose in degrees, up to one constant turn between both heads.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from svp_jax.capture.capture import Capture, open_capture
from svp_jax.capture.refit import fit_capture
from svp_jax.face.morphable import rotation
from svp_jax.face.morphable.files import face_model_path, open_face_model
from svp_jax.face.morphable.multi_pie import INNER, points_of
from svp_jax.face.morphable.tracked import landmark_embedding
from svp_jax.face.tracking import LANDMARKER
from svp_jax.model_files import look_up_model

# Of the Multi-PIE points: middles of upper and lower inner lip; of the lids, right eye and left eye.
_LIPS = ((62, 66),)
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", type=Path)
    parser.add_argument("--face-model", choices=("ict", "flame", "mediapipe"), default="ict")
    parser.add_argument("--face-model-file", type=Path)
    options = parser.parse_args()
    model = None
    if options.face_model != "mediapipe":
        model = open_face_model(options.face_model, face_model_path(options.face_model, options.face_model_file))
    for path in options.captures:
        print(path.name, *_measure(open_capture(path), model), sep="\n  ", flush=True)


def _measure(capture: Capture, model) -> list[str]:
    landmarker = look_up_model(LANDMARKER)
    for _ in range(2):
        start = time.perf_counter()
        fitted, track, numbers = fit_capture(capture, model, landmarker)
        seconds = time.perf_counter() - start
    tracking = capture.tracking()
    usable = np.flatnonzero(capture.shot >= 0)
    embedding = landmark_embedding(fitted, capture.landmarks.shape[1], landmarker)
    parts = np.array_split(usable, max(1, len(usable) // 16))
    projected = np.concatenate(
        [
            np.asarray(track.camera.project(embedding.points(fitted.vertices(track.parameters.frames(part)))))
            for part in parts
        ]
    )
    points = points_of(projected)
    lines = [
        f"error {numbers['fit_error_percent']} %, worst {numbers['fit_worst_frame_percent']} %",
        f"{len(capture.shot) / seconds:.1f} frames/s ({seconds:.1f} s)",
        "jitter in the stillest quarter: " + _jitter(capture, tracking["landmarks_raw"], points),
    ]
    names = [str(name) for name in tracking["blendshape_names"]]
    if "jawOpen" in names:
        scores = tracking["blendshapes"][usable]
        blink = scores[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].mean(axis=1)
        mouth = np.corrcoef(_gap(points, _LIPS), scores[:, names.index("jawOpen")])[0, 1]
        lines.append(f"mouth {mouth:.3f}, eyes {-np.corrcoef(_gap(points, _LIDS), blink)[0, 1]:.3f}")
    if "synthetic" in capture.manifest:
        lines.append(_pose_error(tracking["pose"][:, :3, :3], np.asarray(track.parameters.rotation)))
    return lines


def _gap(points: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Mean distance [N] in the picture of pairs of points [N, 70, 3]."""
    return np.mean([np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=1) for a, b in pairs], axis=0)


def _jitter(capture: Capture, raw: np.ndarray, fitted: np.ndarray) -> str:
    usable = np.flatnonzero(capture.shot >= 0)
    series = [points_of(raw[usable])[:, INNER, :2], points_of(capture.landmarks[usable])[:, INNER, :2]]
    series.append(fitted[:, INNER, :2])
    change = [np.abs(np.diff(points, n=2, axis=0)).mean(axis=(1, 2)) for points in series]
    # Still: where the smoothed points move least within five frames.
    speed = np.abs(np.diff(series[1], axis=0)).mean(axis=(1, 2))
    speed = np.convolve(speed, np.ones(5) / 5, mode="same")[: len(change[0])]
    still = speed <= np.quantile(speed, 0.25)
    return ", ".join(
        f"{name} {c[still].mean():.3f}" for name, c in zip(("raw", "smoothed", "fitted"), change, strict=True)
    )


def _pose_error(truth: np.ndarray, fitted: np.ndarray) -> str:
    turned = np.asarray(rotation.matrix(fitted), np.float64)
    left, _, right = np.linalg.svd(np.einsum("nji,njk->ik", truth, turned))
    expected = truth @ (left @ right)
    angle = np.degrees(np.linalg.norm(rotation.vector(expected.swapaxes(1, 2) @ turned), axis=-1))
    return f"pose off by {angle.mean():.2f} degrees on average, {angle.max():.2f} at most"


if __name__ == "__main__":
    main()
