"""How metrics, regions and rows of scores are called for a reader, and which of two numbers is the better one."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A metric for a reader.

    Attributes:
        better: "higher", "lower", "reference" (the nearer to the reference's own number the better) or
            "none" (a number that ranks nothing).
    """

    label: str
    better: str = "lower"
    unit: str = ""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "reference": "→ reference", "none": ""}[self.better]

    @property
    def advice(self) -> str:
        """The direction in words."""
        return {
            "higher": "higher is better",
            "lower": "lower is better",
            "reference": "nearer to the reference's own is better",
            "none": "ranks nothing",
        }[self.better]


# In the order of the tables' columns.
MEASURES = {
    "psnr": Measure("PSNR", "higher", "dB"),
    "ssim": Measure("SSIM", "higher"),
    "ms_ssim": Measure("MS-SSIM", "higher"),
    "mse": Measure("MSE"),
    "l1": Measure("L1"),
    "lpips_alex": Measure("LPIPS (alex)"),
    "lpips_vgg": Measure("LPIPS (vgg)"),
    "fid": Measure("FID"),
    "kid": Measure("KID"),
    "smoothness": Measure("smoothness"),
    "tof": Measure("tOF", unit="px"),
    "tlpips_alex": Measure("tLPIPS (alex)"),
    "tlpips_vgg": Measure("tLPIPS (vgg)"),
    "warping_error": Measure("warping error"),
    # Pictures that never change neither flicker nor jitter: less is not better.
    "flicker": Measure("flicker", "reference"),
    "landmark_jitter": Measure("landmark jitter", "reference", "px"),
    "faces_missing": Measure("faces missing"),
    "landmark_distance": Measure("landmark distance", unit="% of the eyes' distance"),
    "expression_distance": Measure("expression distance"),
    "pose_distance": Measure("pose distance", unit="°"),
    "parsing_agreement": Measure("parsing agreement", "higher"),
    "identity": Measure("identity", "higher"),
    "fvd": Measure("FVD"),
}
# They stand in the cell or at the head of another metric, not in a column.
COMPANIONS = {"kid_error", "psnr_infinite", "flicker_reference", "landmark_jitter_reference"}
REGIONS = {"full": "full frame", "face": "face", "person": "person"}
ROWS = {
    "nearest_frame": ("nearest training frame", "baseline"),
    "mean_frame": ("mean training frame", "baseline"),
    "vae_round_trip": ("VAE round trip", "ceiling"),
}
SIGNIFICANT = 4  # digits of a column's smallest number
DECIMALS = 6  # at most


@dataclass(frozen=True)
class Row:
    """One row of scores: `kind` is "method", "baseline" or "ceiling"; `marked`: scored under another protocol."""

    name: str
    label: str
    kind: str
    marked: bool


def measure(metric: str) -> Measure:
    """What is known of a metric; one that is not known here ranks nothing."""
    return MEASURES.get(metric) or Measure(metric.replace("_", " "), "none")


def rows_of(manifest: dict) -> list[Row]:
    """The rows of a report's scores, in its order.

    A method whose protocol is not the first method's is marked: its numbers were made otherwise.
    """
    methods = manifest.get("methods", {})
    first = next(iter(methods.values()), {}).get("protocol_sha256")
    rows = []
    for name in manifest.get("scores", {}):
        label, kind = (name, "method") if name in methods else ROWS.get(name, (name, "baseline"))
        marked = name in methods and methods[name].get("protocol_sha256") != first
        rows.append(Row(name, label, kind, marked))
    return rows


def regions_of(scores: dict) -> list[str]:
    """The regions that any row of `scores` (row -> region -> ...) has, the known ones first."""
    present = {region for regions in scores.values() for region in regions}
    return [region for region in REGIONS if region in present] + sorted(present - REGIONS.keys())


def metrics_of(scores: dict, region: str | None = None) -> list[str]:
    """The metrics that any row of `scores` (row -> region -> metric -> ...) has, in the order of the columns."""
    present = {
        metric
        for regions in scores.values()
        for key, values in regions.items()
        for metric in values
        if region in (None, key)
    } - COMPANIONS
    return [metric for metric in MEASURES if metric in present] + sorted(present - MEASURES.keys())


def references_own(metric: str) -> str:
    """The name under which each row of scores holds the reference's own number, where a metric compares with it."""
    return f"{metric}_reference"


def badness(metric: str, value: float, own: float | None) -> float | None:
    """A number that is the smaller the better `value` is; None where the metric ranks nothing.

    Args:
        own: the same metric of the reference itself, for those that compare with it.
    """
    better = measure(metric).better
    if better == "reference":
        return None if own is None else abs(value - own)
    return {"higher": -value, "lower": value, "none": None}[better]


def decimals(values: list[float]) -> int:
    """Digits behind the point with which the smallest of a column's numbers shows `SIGNIFICANT` digits."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 0
    return min(max(SIGNIFICANT - 1 - math.floor(math.log10(min(sizes))), 0), DECIMALS)


def shown(value: float, digits: int) -> str:
    """`value` with that many decimals; where they would all be zero, with an exponent."""
    text = f"{value:.{digits}f}"
    if value and not float(text):
        text = f"{value:.1e}"
    return text.replace("-", "−") if value < 0 else text
