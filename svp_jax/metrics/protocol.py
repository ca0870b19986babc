"""How scores were made, in words and numbers; numbers of one hash can be compared."""

import hashlib
import json
from importlib import metadata

import cv2
import numpy as np

from svp_jax.face.labels import FACE_LABELS
from svp_jax.metrics.baselines import SIGNATURE_SIDE
from svp_jax.metrics.comparison import Comparison
from svp_jax.metrics.differences import LEVEL, RESAMPLES
from svp_jax.metrics.sources import Source

VERSIONS = ("svp_jax", "numpy", "scipy", "av", "jax", "mediapipe", "onnxruntime")
DEFINITIONS = {
    "psnr": "of the mean squared error, peak 1; means leave out equal pictures, which psnr_infinite counts",
    "ssim": "7 x 7 uniform window, sample covariances, K 0.01 and 0.03 (scikit-image's default)",
    "ms_ssim": "five scales, 11 x 11 Gaussian window of sigma 1.5, population covariances (Wang et al. 2003)",
    "mse": "mean squared error",
    "l1": "mean absolute error",
    "smoothness": "mean |(r_n - r_(n-1)) - (g_n - g_(n-1))|",
    "flicker": "mean |r_n - r_(n-1)|; flicker_reference is the reference's own",
    "tof": "mean length of the difference of Farneback's flow (TecoGAN's settings), pixels",
    "warping_error": "mean squared difference to the frame before, warped by the reference's flow, where both frames "
    "show the pixel (Lai et al. 2018)",
    "lpips_alex": "LPIPS 0.1 with AlexNet, whole pictures, no resize",
    "lpips_vgg": "LPIPS 0.1 with VGG16, whole pictures, no resize",
    "tlpips_alex": "|LPIPS(r_(n-1), r_n) - LPIPS(g_(n-1), g_n)|",
    "tlpips_vgg": "as tlpips_alex, with VGG16",
    "fid": "pytorch-fid's Inception, pool3, bilinear to 299 x 299 without antialiasing; needs many frames: compare "
    "only at equal numbers of frames",
    "kid": "the same features, cubic kernel, 100 subsets of half of the frames (1000 at most); kid_error is the "
    "standard error over subsets",
    "landmark_distance": "mean distance of brows, eyes, nose and lips, % of the reference's outer eye distance; one "
    "tracker on both, which looks for the person anew after a cut",
    "expression_distance": "mean absolute difference of 52 blendshape scores",
    "pose_distance": "angle between head rotations, degrees",
    "landmark_jitter": "mean absolute second difference of landmarks, pixels; landmark_jitter_reference is the "
    "reference's own",
    "faces_missing": "frames with a face in the reference and none here; the others leave them out",
    "parsing_agreement": "mean intersection over union of the reference's labels, one parser on both",
}


def protocol_of(
    comparison: Comparison, described: dict, metrics: set[str], networks: dict[str, dict[str, str]]
) -> dict:
    """What is alike for all methods.

    Args:
        described: what was read as the reference.
        metrics: that were measured. networks: name -> file -> SHA-256 of the weights.
    """
    reference, frames = comparison.reference, comparison.frames
    in_training = 0
    if reference.capture is not None:
        in_training = int(np.isin(frames.reference, reference.capture.train_indices).sum())
    return {
        "reference": described["manifest_sha256"] or described["video_sha256"],
        "size": [reference.height, reference.width],
        "crop": "none: whole frames",
        "resize": "none but for Inception, see fid",
        "value_range": "0 to 1 (8-bit values / 255)",
        "frames_scored": len(frames.reference),
        "frames_of_the_references_training_split": in_training,
        "smoothness_pairs": int(frames.follows.sum()),
        "follows": "".join("01"[int(flag)] for flag in frames.follows),
        "reference_frames": frames.reference.tolist(),
        "mask": f"face: reference pixels whose parsing label is one of {', '.join(FACE_LABELS)}; person: all but the "
        "background; of two frames, the pixels in either's mask (warping_error: in the later one's); a frame with an "
        "empty mask has no number",
        "mean": "over the frames where a number is defined and finite",
        "metrics": {name: text for name, text in DEFINITIONS.items() if name in metrics},
        "networks": networks,
        "nearest_frame": "training frame with the least Euclidean distance between parsing, geometry and "
        f"iris maps averaged down to {SIGNATURE_SIDE} x {SIGNATURE_SIDE} pixels",
        "mean_frame": "mean of the training frames",
        "vae_round_trip": "reference encoded (posterior mean) and decoded by the VAE that the result was made with",
        "intervals": f"{LEVEL:.0%}, circular block bootstrap over frames, {RESAMPLES} resamples",
        "versions": {name: metadata.version(name) for name in VERSIONS} | {"opencv": cv2.__version__},
    }


def kind_of_pictures(source: Source) -> str:
    """Whether they went through a codec; the one thing that may differ between methods."""
    return "as decoded from a video file" if source.kind == "video" else "without loss"


def protocol_sha256(protocol: dict, pictures: str) -> str:
    """Of all that decides on a method's numbers, but for what its pictures show.

    Args:
        pictures: as of `kind_of_pictures`.
    """
    # Which of the metrics were asked for decides on none of them.
    decisive = {name: value for name, value in protocol.items() if name != "metrics"} | {"pictures": pictures}
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
