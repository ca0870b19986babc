"""FID and KID beside straightforward arithmetic, on features of known and of random distributions."""

import itertools

import numpy as np
import pytest
from scipy import linalg

from svp_jax.errors import UserError
from svp_jax.metrics.distribution import fid, frechet_distance, kid, moments


def features(count: int, width: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Correlated, and 0 or more, as Inception's are."""
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(width, width)) / width**0.5
    return np.maximum(generator.normal(size=(count, width)) @ mix * scale + shift, 0)


def pytorch_fids(a: np.ndarray, b: np.ndarray) -> float:
    """pytorch-fid's arithmetic: a root of the product of both covariances."""
    difference = a.mean(axis=0) - b.mean(axis=0)
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(one @ other)
    return difference @ difference + np.trace(one) + np.trace(other) - 2 * np.trace(root).real


# More frames than features; fewer in both sets; fewer in one; one more than features.
@pytest.mark.parametrize("counts", [(300, 200), (30, 25), (400, 30), (65, 65)])
def test_fid_is_pytorch_fids(counts):
    a, b = features(counts[0], 64, 1, 1.0, 0.3), features(counts[1], 64, 2, 1.3, 0.2)
    want = pytorch_fids(a, b)
    assert fid(a, b) == pytest.approx(want, rel=1e-6)
    assert fid(b, a) == pytest.approx(fid(a, b), rel=1e-12)
    assert fid(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(want, rel=1e-5)  # the features are rounded


def test_fid_of_few_frames_is_exact():
    # With X = [x - mean] / sqrt(N - 1), the trace of the root is the sum of the singular values of X1 X2^T.
    a, b = features(60, 500, 1), features(80, 500, 2, 1.2)
    (one, ma), (other, mb) = (((x - x.mean(axis=0)) / (len(x) - 1) ** 0.5, x.mean(axis=0)) for x in (a, b))
    shared = linalg.svdvals(one @ other.T).sum()
    want = ((ma - mb) ** 2).sum() + (one**2).sum() + (other**2).sum() - 2 * shared
    assert fid(a, b) == pytest.approx(want, rel=1e-12)


def test_fid_of_known_distributions():
    a = features(100, 8, 1)
    assert 0 <= fid(a, a) < 1e-12 and 0 <= fid(a, a[::-1]) < 1e-12
    assert fid(a, a + np.arange(8)) == pytest.approx((np.arange(8) ** 2).sum(), rel=1e-12)  # moved: squared distance
    assert fid(a - a.mean(axis=0), 3 * (a - a.mean(axis=0))) == pytest.approx(4 * a.var(axis=0, ddof=1).sum())
    one, other = np.random.default_rng(0).normal(size=(2, 50, 1)) * [[[2.0]], [[5.0]]]
    want = (one.mean() - other.mean()) ** 2 + (one.std(ddof=1) - other.std(ddof=1)) ** 2
    assert fid(one, other) == pytest.approx(want, rel=1e-12)


def test_frames_that_are_alike():
    # A still video has no covariance; repeated frames have a rank below their number.
    a, still = features(100, 32, 1), np.full((50, 32), 0.1)
    want = ((a.mean(axis=0) - 0.1) ** 2).sum() + a.var(axis=0, ddof=1).sum()
    assert fid(a, still) == fid(still, a) == pytest.approx(want, rel=1e-12)
    assert fid(still, still) == 0
    few = np.repeat(features(5, 32, 3), 20, axis=0)
    one, other = ((x - x.mean(axis=0)) / (len(x) - 1) ** 0.5 for x in (few, a))
    shared = linalg.svdvals(one @ other.T).sum()
    want = ((few.mean(axis=0) - a.mean(axis=0)) ** 2).sum() + (one**2).sum() + (other**2).sum() - 2 * shared
    # Rounding of 1e-16 in the covariance is 1e-8 in its root.
    assert fid(few, a) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("sizes", [(2500,), (1, 1, 2498), (700, 1300, 500), (2499, 1)])
def test_moments_come_in_batches(sizes):
    # A large mean: sums of squares would lose ten digits.
    a = features(2500, 6, 1) + 1e5
    got = moments(np.split(a, np.cumsum(sizes)[:-1]))
    assert got.count == 2500
    np.testing.assert_allclose(got.mean, a.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(got.covariance, np.cov(a - 1e5, rowvar=False), rtol=1e-9, atol=1e-10)
    assert frechet_distance(got, moments([a])) == pytest.approx(0, abs=1e-9)


def test_a_generator_of_batches_is_read_one_by_one():
    held = []

    def batches():
        for seed in range(5):
            held.append(seed)
            yield features(20, 4, seed).astype(np.float32)

    assert moments(batches()).count == 100 and held == [0, 1, 2, 3, 4]


def discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al. (2012), the unbiased estimate, pair by pair."""

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m = len(x)
    within = sum(kernel(z[i], z[j]) for z in (x, y) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    return within - 2 * sum(kernel(a, b) for a in x for b in y) / m**2


def test_kid_is_torch_fidelitys():
    a, b = features(23, 5, 1), features(17, 5, 2, 1.4)
    draw = np.random.RandomState(11)
    want = []
    for _ in range(4):
        first, second = draw.choice(23, 6, replace=False), draw.choice(17, 6, replace=False)
        want.append(discrepancy(a[first], b[second]))
    got = kid(a, b, subsets=4, subset_size=6, seed=11)
    assert got.mean == pytest.approx(np.mean(want), rel=1e-9)
    assert got.deviation == pytest.approx(np.std(want), rel=1e-9)
    assert got.error == pytest.approx(np.std(want) / 2, rel=1e-9)
    assert (got.subsets, got.subset_size) == (4, 6)
    assert kid(a, b, subsets=4, subset_size=6, seed=12).mean != got.mean
    single = kid(a.astype(np.float32), b.astype(np.float32), subsets=4, subset_size=6, seed=11)
    assert single.mean == pytest.approx(got.mean, rel=1e-5)  # the features are rounded


def test_kid_of_all_frames_is_one_number():
    a, b = features(12, 5, 1), features(12, 5, 2, 1.4)
    got = kid(a, b, subsets=3, subset_size=12)
    assert got.mean == pytest.approx(discrepancy(a, b), rel=1e-9) and got.deviation == pytest.approx(0, abs=1e-12)


def test_kid_of_equal_distributions_is_about_zero_and_grows_with_the_distance():
    near = kid(features(300, 16, 1), features(200, 16, 2))
    far = [kid(features(300, 16, 1), features(200, 16, 2, 1, shift), 20).mean for shift in (0.3, 1.0)]
    assert near.subset_size == 100 and near.subsets == 100 and abs(near.mean) < near.deviation
    assert near.mean < far[0] < far[1]
    assert kid(features(300, 16, 1), features(200, 16, 2)) == near


@pytest.mark.parametrize(("counts", "size"), [((2, 2), 2), ((3, 9), 2), ((9, 11), 4), ((2100, 2500), 1000)])
def test_kids_own_choice_of_subsets(counts, size):
    assert kid(features(counts[0], 3, 1), features(counts[1], 3, 2), subsets=2).subset_size == size


def test_what_is_refused():
    a = features(10, 4, 1)
    for few in (a[:1], a[:0]):
        with pytest.raises(UserError, match=f"FID needs 2 frames or more of each video, there are {len(few)}"):
            fid(few, a)
        with pytest.raises(UserError, match=rf"KID needs 2 frames or more .*; there are {len(few)} and 10 frames"):
            kid(few, a)
    with pytest.raises(UserError, match="there are 0"):
        moments([])
    for size in (1, 0, 11):
        with pytest.raises(UserError, match=f"subsets of 2 to 10; .* 100 subsets of {size}"):
            kid(a, a, subset_size=size)
    with pytest.raises(UserError, match="0 subsets"):
        kid(a, a, subsets=0)
    for metric in (fid, kid):
        with pytest.raises(ValueError, match="features have 4 and 3 numbers"):
            metric(a, a[:, :3])
        with pytest.raises(ValueError, match=r"features are int64 .*, allowed: float \[N, D\]"):
            metric(a, a.astype(np.int64))
        with pytest.raises(ValueError, match="not finite"):
            metric(a, np.where(a == a[3, 1], np.nan, a))
