"""How far the features of one set of frames lie from another's: Frechet and kernel distances (FID, KID)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from svp_jax.errors import UserError

_ROWS = 1024  # features that are turned to float64 at a time
LARGEST_SUBSET = 1000  # torch-fidelity's size of KID's subsets


@dataclass(frozen=True)
class Moments:
    """Number, mean float64 [D] and sample covariance float64 [D, D] (divided by N - 1) of features."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    @cached_property
    def factor(self) -> np.ndarray:
        """F [D, R] with F F^T the covariance, by Cholesky with pivots, the largest first.

        The covariance of N features has a rank of N - 1 at most. What is left of it then is rounding, which a root
        would make a hundred million times larger, and is left out.
        """
        tolerance = np.finfo(np.float64).eps * self.covariance.diagonal().max()
        packed, pivots, rank, _ = lapack.dpstrf(self.covariance, tol=tolerance, lower=1)
        lower = np.tril(packed)[:, : min(rank, self.count - 1)]
        factor = np.empty_like(lower)
        factor[pivots - 1] = lower
        return factor


def moments(batches: Iterable[np.ndarray]) -> Moments:
    """Moments of features float [n, D] that come in batches; none but the present batch is held.

    Raises:
        UserError: fewer than 2 features in all: they have no covariance.
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for batch in batches:
        for start in range(0, len(batch), _ROWS):
            part = _checked(batch[start : start + _ROWS])
            if not count:
                mean, scatter = np.zeros(part.shape[1]), np.zeros((part.shape[1],) * 2)
            # Chan et al. (1983): sums of squares about the mean are not the difference of two large numbers.
            own = part.mean(axis=0)
            centred, shift = part - own, own - mean
            total = count + len(part)
            scatter += centred.T @ centred + np.outer(shift, shift) * (count * len(part) / total)
            mean = mean + shift * (len(part) / total)
            count = total
    if count < 2:
        raise UserError(f"FID needs 2 frames or more of each video, there are {count}")
    return Moments(count, mean, scatter / (count - 1))


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), which is FID for Inception's features; 0 or more.

    Heusel et al. (2017). With C = F F^T, the trace of the root of C1 C2 is the sum of the singular values of F1^T F2.
    So no root of a matrix is needed, which pytorch-fid takes, and which fails or loses digits where there are fewer
    frames than features; the value is defined there too, and exact. What rounding takes below 0 is 0.
    """
    if one.mean.shape != other.mean.shape:
        raise ValueError(f"features have {len(one.mean)} and {len(other.mean)} numbers: must be equal")
    difference = one.mean - other.mean
    shared = np.linalg.svd(one.factor.T @ other.factor, compute_uv=False).sum()
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return max(0.0, float(difference @ difference + traces - 2 * shared))


def fid(features: np.ndarray, reference_features: np.ndarray) -> float:
    """Frechet distance between features float [N, D] and [M, D], N and M from 2; in float64.

    Few frames make it larger: compare only numbers of equally many frames.

    Raises:
        UserError: fewer than 2 frames.
    """
    return frechet_distance(moments([features]), moments([reference_features]))


@dataclass(frozen=True)
class KID:
    """The kernel distance.

    Attributes:
        mean: over the subsets; its expectation is 0 for equal distributions, so it may be slightly negative.
        deviation: standard deviation over the subsets (divided by their number), what torch-fidelity reports.
        error: `deviation` by the root of the number of subsets, the standard error of `mean` for these frames. How few
            frames there are is not in it.
        subsets, subset_size: how many were drawn, and of how many frames each.
    """

    mean: float
    deviation: float
    error: float
    subsets: int
    subset_size: int


def kid(
    features: np.ndarray,
    reference_features: np.ndarray,
    subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 2020,
) -> KID:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x.y / D + 1)^3, over random subsets; in float64.

    Binkowski et al. (2018). The subsets are torch-fidelity's, which draws them for the same seed in the same order.

    Args:
        features, reference_features: float [N, D] and [M, D].
        subsets: how many.
        subset_size: frames of each, drawn without replacement. None: 1000, or half of the smaller set (2 at least)
            where that is less, since subsets of all frames would be alike and their deviation say nothing.
        seed: of the drawing; the default is torch-fidelity's.

    Raises:
        UserError: fewer than 2 frames, or subsets larger than a set.
    """
    one, other = features, reference_features
    for each in (one, other):
        for start in range(0, len(each), _ROWS):
            _checked(each[start : start + _ROWS])
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"features have {one.shape[1]} and {other.shape[1]} numbers: must be equal")
    least = min(len(one), len(other))
    size = min(LARGEST_SUBSET, max(2, least // 2)) if subset_size is None else subset_size
    if least < 2 or subsets < 1 or not 2 <= size <= least:
        raise UserError(
            f"KID needs 2 frames or more of each video, and subsets of 2 to {max(2, least)}; there are {len(one)} and "
            f"{len(other)} frames, and {subsets} subsets of {size}"
        )
    draw = np.random.RandomState(seed)  # torch-fidelity's generator
    distances = np.empty(subsets)
    for number in range(subsets):
        x = one[draw.choice(len(one), size, replace=False)]
        y = other[draw.choice(len(other), size, replace=False)]
        distances[number] = _discrepancy(x.astype(np.float64), y.astype(np.float64))
    deviation = float(distances.std())
    return KID(float(distances.mean()), deviation, deviation / subsets**0.5, subsets, size)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared discrepancy of two sets of equally many features, [m, D] each."""
    m = len(x)
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = within_x.sum() - np.trace(within_x) + within_y.sum() - np.trace(within_y)
    return float(within / (m * (m - 1)) - 2 * between.mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # NumPy's power takes several times as long


def _checked(features: np.ndarray) -> np.ndarray:
    """As float64."""
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise ValueError(f"features are {features.dtype} {features.shape}, allowed: float [N, D]")
    if not np.isfinite(features).all():
        raise ValueError("features hold numbers that are not finite")
    return features.astype(np.float64, copy=False)
