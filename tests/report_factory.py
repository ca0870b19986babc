"""A small report by hand: its manifest, and pictures of moving shapes whose colours tell the frame's number."""

from collections.abc import Callable

import cv2
import numpy as np

COUNT, SIDE = 48, 64
STRIPES = 6  # binary digits of the frame's number, at the top of each picture
ODD_NAME = "<img src=x onerror=alert(1)>"
REGIONS = ("full", "face")
LEVELS = {"ours": 0.0, "theirs": 0.5, ODD_NAME: 1.0, "nearest_frame": 2.0, "mean_frame": 3.0, "vae_round_trip": -1.0}


def per_frame(count: int = COUNT) -> dict:
    """Numbers of all rows: the higher `LEVELS`, the worse; the face is not there in frames 10 to 14."""
    rng = np.random.default_rng(0)
    time = np.arange(count)
    numbers: dict = {}
    for row, level in LEVELS.items():
        wave = np.sin(time / 5 + level) + 0.2 * rng.standard_normal(count)
        numbers[row] = {}
        for region in REGIONS:
            psnr = 30 - 2 * level + wave + (region == "face")
            metrics = {
                "psnr": psnr,
                "lpips_alex": 0.1 + 0.02 * level - 0.01 * wave,
                "smoothness": 0.01 + 0.002 * level + 0 * wave,
            }
            metrics = {metric: [float(value) for value in values] for metric, values in metrics.items()}
            metrics["smoothness"][0] = None
            if region == "face":
                for values in metrics.values():
                    values[10:15] = [None] * 5
            numbers[row][region] = metrics
    return numbers


def manifest(count: int = COUNT, ablation: bool = False) -> dict:
    numbers = per_frame(count)
    scores = {
        row: {
            region: {
                metric: float(np.mean([each for each in values if each is not None]))
                for metric, values in metrics.items()
            }
            for region, metrics in regions.items()
        }
        for row, regions in numbers.items()
    }
    for row, regions in scores.items():
        regions["full"] |= {"fid": None if row == "mean_frame" else 20 + LEVELS[row], "kid": 0.01, "kid_error": 0.002}
    source = {
        "path": "/data/captures/someone/with a long path/that goes on and on/" + ODD_NAME,
        "kind": "capture",
        "manifest_sha256": "0" * 64,
        "video_sha256": None,
        "size": [SIDE, SIDE],
        "frames": count,
        "frame_rate": "25/1",
    }
    made = {
        "kind": "report",
        "reference": source,
        "methods": {
            name: {
                "source": source | {"kind": "render"},
                "pairing": "by the driver's frames",
                "protocol_sha256": digit * 64,
                "frames_left_out": {"no face": 2} if name == "ours" else {},
            }
            for name, digit in (("ours", "a"), ("theirs", "a"), (ODD_NAME, "b"))
        },
        "protocol": {
            "crop": "none: whole frames",
            "size": [SIDE, SIDE],
            "reference_frames": list(range(count)),
            "networks": {"lpips_alex": {"sha256": "c" * 64, "licence": "BSD-2-Clause"}},
            "versions": {"svp_jax": "0.1.0", "numpy": "2.4.6"},
        },
        "protocol_sha256": "a" * 64,
        "left_out": {"identity": "no network is named; give one with --identity NETWORK", "fvd": "<b>no weights</b>"},
        "scores": scores,
        "per_frame": numbers,
        "frames": {
            "seconds": [number / 25 for number in range(count)],
            "reference": list(range(100, 100 + count)),
            "methods": {name: list(range(count)) for name in ("ours", "theirs", ODD_NAME)},
            "follows": [False] + [True] * (count - 1),
        },
        "differences": [
            {"metric": metric, "region": region, "a": "ours", "b": other, "difference": mean, "low": low, "high": high}
            for region in REGIONS
            for other in ("theirs", ODD_NAME)
            for metric, mean, low, high in (
                ("psnr", 1.9, 1.6, 2.3),
                ("lpips_alex", -0.02, -0.03, -0.01),
                ("smoothness", -0.001, -0.004, 0.002),
                ("fid", None, None, None),
            )
        ],
    }
    if ablation:
        made["ablation"] = _ablation()
    return made


def _ablation() -> dict:
    axes = {"w_n": [0.5, 0.75, 1.0], "w_c": [0.3, 0.5, 0.7, 0.9], "tau": [0.25, 0.5]}
    points = []
    for noise in axes["w_n"]:
        for current in axes["w_c"]:
            for tau in axes["tau"]:
                smooth = 0.01 + 0.01 * current - 0.004 * tau
                scores = {
                    "smoothness": smooth,
                    "lpips_alex": 0.2 - 0.1 * current + 0.1 * (noise - 0.8) ** 2,
                    "psnr": 25 + 3 * current,
                }
                points.append({"settings": {"w_n": noise, "w_c": current, "tau": tau}, "scores": scores})
    for point in points:
        mine = [point["scores"][key] for key in ("smoothness", "lpips_alex")]
        others = ([each["scores"][key] for key in ("smoothness", "lpips_alex")] for each in points)
        point["on_front"] = not any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in others
        )
        point["best"] = point["settings"] == {"w_n": 0.75, "w_c": 0.7, "tau": 0.5}
    shape = [len(values) for values in axes.values()]
    metrics = {key: np.reshape([each["scores"][key] for each in points], shape).tolist() for key in points[0]["scores"]}
    metrics["psnr"][0][0][0] = None
    return {"axes": axes, "metrics": metrics, "points": points}


def picture(number: int, side: int = SIDE, blur: float = 0.0, shift: int = 0) -> np.ndarray:
    """A disc and a square that wander over a ramp; black and white stripes at the top count frames in binary."""
    ramp = np.linspace(40, 200, side).astype(np.uint8)
    image = np.dstack(
        [np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 120, np.uint8)]
    )
    centre = [round(side * (0.5 + 0.2 * turn(number / 7))) + shift for turn in (np.sin, np.cos)]
    cv2.circle(image, centre, side // 5, (225, 175, 145), -1, cv2.LINE_AA)
    corner = [round(side * (0.6 + 0.15 * turn(number / 11))) for turn in (np.cos, np.sin)]
    cv2.rectangle(image, corner, [each + side // 8 for each in corner], (40, 60, 110), -1)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    for digit in range(STRIPES):
        left, right = (side * edge // STRIPES for edge in (digit, digit + 1))
        image[: side // 6, left:right] = 255 * (number >> digit & 1)
    return image


def pictures(side: int = SIDE) -> dict[str, Callable]:
    """Of the reference and all rows, as `write_page` takes them."""

    def like(**settings) -> Callable:
        return lambda numbers: (picture(int(number), side, **settings) for number in numbers)

    return {
        "ours": like(blur=0.6),
        "theirs": like(shift=1),
        ODD_NAME: like(shift=3),
        "nearest_frame": lambda numbers: (picture(int(number) // 4 * 4, side) for number in numbers),
        "mean_frame": like(blur=6.0),
        "vae_round_trip": like(blur=0.4),
        "reference": like(),
    }
