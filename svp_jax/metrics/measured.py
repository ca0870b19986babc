"""Which metrics there are, what each group of them needs, and all of their scores of a comparison."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from svp_jax.errors import UserError, nearest
from svp_jax.face.tracking import LANDMARKER, face_tracker
from svp_jax.manifest import sha256_file
from svp_jax.metrics.comparison import Comparison
from svp_jax.metrics.control import IDENTITY_LEFT_OUT, PersonTracker, parse_picture, picture_parser
from svp_jax.metrics.meters.distribution import DISTRIBUTION, DistributionMeter
from svp_jax.metrics.meters.meter import Meter, Regions
from svp_jax.metrics.meters.motion import MOTION, MotionMeter
from svp_jax.metrics.meters.perceptual import PerceptualMeter, perceptual
from svp_jax.metrics.meters.pictures import PICTURES, PictureMeter
from svp_jax.metrics.meters.scales import SCALES, ScalesMeter
from svp_jax.metrics.meters.tracking import PARSING, TRACKING, TrackingMeter
from svp_jax.metrics.networks import open_inception, open_lpips
from svp_jax.metrics.score import joined, score
from svp_jax.model_files import find_model

# What can be asked for, and the metrics of each.
GROUPS = {
    "pictures": PICTURES,
    "scales": SCALES,
    "motion": MOTION,
    "lpips_alex": perceptual("alex"),
    "lpips_vgg": perceptual("vgg"),
    "distribution": DISTRIBUTION,
    "tracking": (*TRACKING, *PARSING),
}
FVD_LEFT_OUT = (
    "its reference network, an I3D, is distributed as a TensorFlow Hub module and as TorchScript, which need these "
    "programs to run; no command fetches it"
)
NOT_ASKED_FOR = "not among --metrics"


@dataclass
class Measured:
    """What was found out.

    Attributes:
        per_frame: row -> region -> metric -> float [N]. totals: row -> metric -> number of the whole video.
        networks: name -> file -> SHA-256 of the weights.
        left_out: metric -> reason.
    """

    per_frame: dict[str, Regions]
    totals: dict[str, dict[str, float]]
    networks: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, per_frame: Sequence[Regions], totals: Sequence[dict[str, float]]) -> None:
        """Of each row, in order."""
        for name, regions, numbers in zip(self.per_frame, per_frame, totals, strict=True):
            self.per_frame[name] = joined([self.per_frame[name], regions])
            self.totals[name] |= numbers


def check_groups(metrics: Sequence[str]) -> None:
    """Raises UserError where `metrics` are not all of `GROUPS`."""
    for name in metrics:
        if name not in GROUPS:
            metric = name.lower().replace("-", "_")
            group = next((group for group, members in GROUPS.items() if metric in members), None)
            hint = f"{metric} is one of the group {group}: give that" if group else nearest(metric, list(GROUPS))
            raise UserError(f"--metrics {name}: no such group of metrics; {hint}")


def measured(comparison: Comparison, metrics: Sequence[str], folder: Path) -> Measured:
    """All that is asked for, of all rows.

    Args:
        metrics: some of `GROUPS`.
        folder: where large things may lie meanwhile.

    Raises:
        UserError: none of it can be measured.
    """
    count, rows, reference = len(comparison.frames.reference), len(comparison.rows), comparison.reference
    size = reference.height, reference.width
    numbers = np.arange(count)
    found = Measured({name: {} for name in comparison.rows}, {name: {} for name in comparison.rows})
    found.left_out |= {"identity": IDENTITY_LEFT_OUT, "fvd": FVD_LEFT_OUT}
    features = folder / "features"
    features.mkdir()
    with ExitStack() as stack:
        openers: dict[str, Callable[[], Meter]] = {
            "pictures": lambda: PictureMeter(count, rows, comparison.regions, *size),
            "scales": lambda: ScalesMeter(count, rows, *size),
            "motion": lambda: MotionMeter(count, rows, comparison.regions),
            "lpips_alex": lambda: PerceptualMeter(count, rows, *size, open_lpips("alex")),
            "lpips_vgg": lambda: PerceptualMeter(count, rows, *size, open_lpips("vgg")),
            "distribution": lambda: DistributionMeter(count, rows, open_inception(), features),
            "tracking": lambda: _tracking_meter(comparison, found, count, stack),
        }
        meters = []
        for group, open_meter in openers.items():
            with _left_out(found, group, metrics) as wanted:
                if wanted:
                    meters.append(open_meter())
                    found.networks |= meters[-1].networks
        if not meters:
            raise UserError(
                "nothing can be measured: " + "; ".join({found.left_out[GROUPS[name][0]]: "" for name in metrics})
            )
        shown = [pictures(numbers) for pictures in comparison.rows.values()]
        references = tqdm(comparison.references(numbers), desc="score", total=count, unit="frame")
        score(shown, references, comparison.masks(), comparison.frames.follows, meters)
    for meter in meters:
        found.add(meter.per_frame(), meter.totals())
    shutil.rmtree(features)
    return found


@contextmanager
def _left_out(found: Measured, group: str, metrics: Sequence[str]) -> Iterator[bool]:
    """Whether `metrics` ask for a group; why it is left out where they do not, or something that it needs is absent."""
    if group not in metrics:
        found.left_out |= dict.fromkeys(GROUPS[group], NOT_ASKED_FOR)
    try:
        yield group in metrics
    except UserError as reason:
        found.left_out |= dict.fromkeys(GROUPS[group], str(reason))


def _tracking_meter(comparison: Comparison, found: Measured, count: int, stack: ExitStack) -> TrackingMeter:
    """With trackers and the parser that `stack` closes; where there is no parser, the reason goes into `found`."""
    reference, networks = comparison.reference, {"tracker": {LANDMARKER: sha256_file(find_model(LANDMARKER))}}
    trackers = [
        PersonTracker(stack.enter_context(face_tracker()), reference.frame_rate, comparison.frames.shots)
        for _ in ("reference", *comparison.rows)
    ]
    parse = None
    try:
        parser, files = stack.enter_context(picture_parser(reference.height, reference.width))
    except UserError as reason:
        found.left_out |= dict.fromkeys(PARSING, str(reason))
    else:
        networks["parser"] = {file.name: sha256_file(file) for file in files}
        parse = partial(parse_picture, parser)
    return TrackingMeter(count, trackers, parse, networks)
