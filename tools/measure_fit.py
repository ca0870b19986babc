"""Measures how well a face model follows captures: errors, correlations with the tracker, jitter, speed.

    python tools/measure_fit.py CAPTURE ... [--face-model ict --face-model-file FILE]

Fits each capture (made by `svp prepare`) twice, the second time without compiling, and prints for it

    error, worst     mean distance of eyes, brows, nose and lips from the tracked ones, in % of the distance between the
                     outer corners of the eyes: over all frames, and of the worst frame
    mouth, eyes      correlations of the fitted face's lip gap and lid gaps with the scores jawOpen and eyeBlink
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
from svp_jax.face.morphable.model import FaceModel
from svp_jax.face.morphable.multi_pie import INNER, points_of
from svp_jax.face.morphable.tracked import landmark_embedding
from svp_jax.face.tracking import LANDMARKER
from svp_jax.model_files import look_up_model
from svp_jax.process import set_up_process

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
        capture = open_capture(path)
        numbers = measure(capture, model)
        print(path.name)
        for name, value in numbers.items():
            print(f"  {name:32} {value:.3f}", flush=True)


def measure(capture: Capture, model: FaceModel | None) -> dict[str, float]:
    """The numbers that the module's text names, under these names.

    Args:
        model: None for the one made of the capture itself.
    """
    landmarker = look_up_model(LANDMARKER)
    for _ in range(2):
        start = time.perf_counter()
        fitted, track, quality = fit_capture(capture, model, landmarker)
        seconds = time.perf_counter() - start
    tracking = capture.tracking()
    usable = np.flatnonzero(capture.shot >= 0)
    embedding = landmark_embedding(fitted, capture.landmarks.shape[1], landmarker)
    whole = np.asarray(track.camera.project(fitted.restricted(embedding).vertices(track.parameters)))
    points = points_of(whole)[usable]
    numbers = {
        "error, %": quality["fit_error_percent"],
        "worst frame, %": quality["fit_worst_frame_percent"],
        **_jitter(capture, tracking["landmarks_raw"], points),
        "frames/s": len(capture.shot) / seconds,
    }
    names = [str(name) for name in tracking["blendshape_names"]]
    if "jawOpen" in names:
        scores = tracking["blendshapes"][usable]
        blink = scores[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].mean(axis=1)
        numbers["mouth, correlation"] = np.corrcoef(_gap(points, _LIPS), scores[:, names.index("jawOpen")])[0, 1]
        numbers["eyes, correlation"] = -np.corrcoef(_gap(points, _LIDS), blink)[0, 1]
    if "synthetic" in capture.manifest:
        numbers |= _pose_error(tracking["pose"][:, :3, :3], np.asarray(track.parameters.rotation))
    return numbers


def _gap(points: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Mean distance [N] in the picture of pairs of points [N, 70, 3]."""
    return np.mean([np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=1) for a, b in pairs], axis=0)


def _jitter(capture: Capture, raw: np.ndarray, fitted: np.ndarray) -> dict[str, float]:
    usable = np.flatnonzero(capture.shot >= 0)
    series = [points_of(raw[usable])[:, INNER, :2], points_of(capture.landmarks[usable])[:, INNER, :2]]
    series.append(fitted[:, INNER, :2])
    change = [np.abs(np.diff(points, n=2, axis=0)).mean(axis=(1, 2)) for points in series]
    # Still: where the smoothed points move least within five frames.
    speed = np.abs(np.diff(series[1], axis=0)).mean(axis=(1, 2))
    speed = np.convolve(speed, np.ones(5) / 5, mode="same")[: len(change[0])]
    still = speed <= np.quantile(speed, 0.25)
    names = ("tracked", "smoothed", "fitted")
    return {f"jitter where still, {name}": c[still].mean() for name, c in zip(names, change, strict=True)}


def _pose_error(truth: np.ndarray, fitted: np.ndarray) -> dict[str, float]:
    turned = np.asarray(rotation.matrix(fitted), np.float64)
    left, _, right = np.linalg.svd(np.einsum("nji,njk->ik", truth, turned))
    expected = truth @ (left @ right)
    angle = np.degrees(np.linalg.norm(rotation.vector(expected.swapaxes(1, 2) @ turned), axis=-1))
    return {"pose, degrees": angle.mean(), "pose, worst frame": angle.max()}


if __name__ == "__main__":
    set_up_process()
    main()
