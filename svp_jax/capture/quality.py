"""How good a clip is for an avatar: numbers, and sentences that say what to do about them."""

import numpy as np

from svp_jax.capture.tracks import Tracks
from svp_jax.face.smoothing import jitter
from svp_jax.face.tracking import pose_angles

REFERENCE_WIDTH = 256  # Jitter is given in pixels of a crop of this width.


def measure_quality(tracks: Tracks, smoothed: np.ndarray, side: int, size: int, seconds: float) -> dict:
    """The numbers of the report.

    Args:
        tracks: the raw tracking of all source frames.
        smoothed: landmarks [N, 478, 3] after smoothing, in pixels of the source.
        side: width of the crop in the source. size: of the capture's images.
        seconds: length of the capture.
    """
    usable = tracks.shot >= 0
    scale = REFERENCE_WIDTH / side
    angles = pose_angles(tracks.pose[usable])
    faces = np.ptp(tracks.landmarks[usable][..., :2], axis=1)
    sharp = tracks.sharpness[usable]
    jaw = tracks.blendshapes[usable][:, tracks.blendshape_names.index("jawOpen")]

    def span(values: np.ndarray, digits: int = 1) -> list[float]:
        return [round(float(values.min()), digits), round(float(values.max()), digits)]

    return {
        "source_frames": len(usable),
        "usable_frames": int(usable.sum()),
        "detection_rate": round(float(usable.mean()), 4),
        "seconds": round(seconds, 3),
        "usable_seconds": round(seconds * float(usable.mean()), 3),
        "shots": int(tracks.shot.max()) + 1,
        "cuts": int(tracks.cut.sum()),
        "frames_with_another_face": tracks.frames_with_others,
        "yaw_degrees": span(angles[:, 0]),
        "pitch_degrees": span(angles[:, 1]),
        "roll_degrees": span(angles[:, 2]),
        "jaw_open": span(jaw, 2),
        "face_pixels": [round(float(value), 1) for value in np.median(faces, axis=0)],
        "crop_pixels": side,
        "size": size,
        "sharpness_median": round(float(np.median(sharp)), 1),
        "blurred_frames": int((sharp < 0.3 * np.median(sharp)).sum()),
        # Pixels at width 256: the plain second difference, head motion included, and what is left of it when
        # the motion seen in the picture is taken off (the tracker's tremble).
        "jitter_before": round(scale * jitter(tracks.landmarks, tracks.shot), 3),
        "jitter_after": round(scale * jitter(smoothed, tracks.shot), 3),
        "tremble_before": round(scale * jitter(tracks.landmarks, tracks.shot, tracks.motion), 3),
        "tremble_after": round(scale * jitter(smoothed, tracks.shot, tracks.motion), 3),
    }


def advice(quality: dict) -> list[str]:
    """One sentence for each thing that will limit the avatar; our own limits, from what trainers report."""
    said = []
    q = quality
    lost = q["source_frames"] - q["usable_frames"]
    if q["frames_with_another_face"]:
        said.append(
            f"another face was seen in {q['frames_with_another_face']} of {q['source_frames']} frames; one person "
            "was followed, the same in every frame: check the overlay, or cut the other person out of the video"
        )
    if lost:
        said.append(f"no face in {lost} of {q['source_frames']} frames: they are marked and not trained on")
    if q["cuts"]:
        said.append(f"{q['cuts']} cuts: one take works best, and after a cut another person may be in it")
    if q["usable_seconds"] < 20:
        said.append(f"only {q['usable_seconds']:.1f} s with a face: 1 to 5 minutes make a better avatar")
    turn = q["yaw_degrees"][1] - q["yaw_degrees"][0]
    if turn < 15:
        said.append(f"the head turns by {turn:.0f} degrees only: the avatar will not follow larger turns")
    if q["jaw_open"][1] < 0.2:
        said.append("the mouth hardly opens: the avatar will not know what is inside it")
    if q["crop_pixels"] < q["size"]:
        said.append(f"the crop of {q['crop_pixels']} pixels is enlarged to {q['size']}: a smaller --size will do")
    if q["face_pixels"][0] < 100:
        said.append(f"the face is {q['face_pixels'][0]:.0f} pixels wide: film closer, 200 or more are good")
    if q["blurred_frames"] > 0.05 * q["usable_frames"]:
        said.append(f"{q['blurred_frames']} frames are much blurrier than the rest: use a shorter exposure")
    return said


def summary(quality: dict, sentences: list[str]) -> str:
    """The report as plain text."""
    numbers = [f"{name.replace('_', ' '):26} {value}" for name, value in quality.items()]
    return "\n".join([*numbers, "", *(f"- {text}" for text in sentences or ["nothing to improve was found"]), ""])
