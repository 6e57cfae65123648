"""Intervals and tests: over items of one checkpoint, and over training seeds of a method.

Two kinds of uncertainty are kept apart. *Item-level* statistics (bootstrap over videos, Wilson) say how sure we are
about the checkpoints that were measured. *Seed-level* statistics (Student's t over training seeds, Holm) say
something about methods. Only the second kind may separate two methods.

Letters: n items, C clusters (videos), R bootstrap draws.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Interval = tuple[float, float] | tuple[None, None]

_MAX_DRAWN = 4_000_000  # cluster indices drawn at once: bounds the memory of a bootstrap to some 100 MB


class SeedTest(NamedTuple):
    """Student's t on differences between training seeds: mean difference, interval, two-sided p, number of seeds."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int

    @property
    def deviation(self) -> float:
        """Standard deviation of the differences, read back from the interval's width."""
        return (self.high - self.mean) * math.sqrt(self.n) / student_quantile(0.975, self.n - 1)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    weights: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Return the percentile bootstrap interval of the mean of `values`, drawing whole clusters.

    Items of one video are not independent, so videos are drawn with replacement and every item of a drawn video
    enters (Davison and Hinkley 1997, section 3.8; Field and Welsh 2007). With `weights` it is the weighted mean
    sum(w v) / sum(w), which covers ratios as well: F1 is the mean of 2TP / (2TP + FP + FN) weighted by 2TP + FP + FN.

    Args:
        values: (n,) figures of the items; bool for right/wrong outcomes.
        clusters: (n,) the video (or episode) of each item; any integer or string labels.
        rng: the only source of randomness.
        draws: number R of bootstrap samples.
        weights: (n,) weights >= 0; None counts every item once.
        confidence: coverage of the interval.

    Returns:
        (low, high), or (None, None) where fewer than two clusters carry weight. Outcomes of type bool that are all
        equal give Wilson's interval on the number of clusters, because no draw can show any spread then.

    Raises:
        ValueError: no items, unequal lengths, or a value that is not finite.
    """
    outcomes = np.asarray(values)
    sums, totals = _cluster_sums(outcomes, clusters, weights)
    count = int(np.count_nonzero(totals))
    if count < 2:
        return None, None
    if outcomes.dtype == np.bool_ and outcomes.min() == outcomes.max():
        return wilson(count if bool(outcomes[0]) else 0, count, confidence=confidence)
    means = _drawn_means([(sums, totals)], rng=rng, draws=draws)[0]
    return _percentiles(means, confidence)


def paired_cluster_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    weights: ArrayLike | None = None,
    weights_b: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Return the bootstrap interval of mean(a) - mean(b) over common items, drawing the same clusters for both arms.

    Args:
        a: (n,) figures of the first run.
        b: (n,) figures of the second run on the same items, in the same order.
        clusters: (n,) the video of each item.
        rng: the only source of randomness.
        draws: number R of bootstrap samples.
        weights: (n,) weights of the first run's items; None counts every item once.
        weights_b: (n,) weights of the second run's items; None means `weights`.
        confidence: coverage of the interval.

    Returns:
        (low, high), or (None, None) where fewer than two clusters carry weight.

    Raises:
        ValueError: no items, unequal lengths, or a value that is not finite.
    """
    first = _cluster_sums(np.asarray(a), clusters, weights)
    second = _cluster_sums(np.asarray(b), clusters, weights if weights_b is None else weights_b)
    if min(int(np.count_nonzero(totals)) for _, totals in (first, second)) < 2:
        return None, None
    means_a, means_b = _drawn_means([first, second], rng=rng, draws=draws)
    return _percentiles(means_a - means_b, confidence)


def weighted_mean(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return sum(w v) / sum(w) of (n,) values: the estimate that the bootstrap intervals belong to."""
    figures = np.asarray(values, dtype=np.float64)
    return float(np.average(figures, weights=None if weights is None else np.asarray(weights, dtype=np.float64)))


def wilson(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for k successes in n independent trials (Wilson 1927), as fractions.

    Raises:
        ValueError: n < 1 or k outside 0..n.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} successes in {n} trials")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = k / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # At the ends the exact bounds are 0 and 1; rounding must not leave the figure outside its own interval.
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def student_interval(differences: ArrayLike, *, confidence: float = 0.95) -> SeedTest:
    """Return Student's t interval and two-sided p of the mean of per-seed figures or paired differences.

    A percentile bootstrap over three seeds excludes zero in a quarter of all null cases; Student's t with n - 1
    degrees of freedom keeps its level (Student 1908).

    Args:
        differences: (n,) one figure for each training seed, n >= 3.
        confidence: coverage of the interval.

    Returns:
        mean, low, high, p_value and n. Figures without any spread give a zero-width interval and p = 0 (p = 1 where
        all are zero); callers must not read that as certainty.

    Raises:
        ValueError: fewer than three figures, or one that is not finite.
    """
    figures = np.asarray(differences, dtype=np.float64)
    if figures.ndim != 1 or figures.size < 3:
        raise ValueError(f"a t interval needs at least 3 seeds, not {figures.size}")
    if not np.isfinite(figures).all():
        raise ValueError("a figure is not finite")
    n = figures.size
    mean, error = float(figures.mean()), float(figures.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(mean):
        return SeedTest(mean, mean, mean, 1.0 if mean == 0 else 0.0, n)
    half = student_quantile(0.5 + confidence / 2, n - 1) * error
    return SeedTest(mean, mean - half, mean + half, 2 * student_tail(abs(mean) / error, n - 1), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the whole family by Holm's step-down rule (Holm 1979), in the given order.

    A hypothesis may be rejected at level alpha where its corrected value is <= alpha; the chance of any false
    rejection in the family is then at most alpha.
    """
    count = len(p_values)
    corrected = [0.0] * count
    running = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def seeds_to_separate(
    difference: float, deviation: float, *, alpha: float = 0.05, power: float = 0.8, limit: int = 100
) -> int | None:
    """Return how many training seeds would separate two methods, were the observed figures the true ones.

    The least n >= 3 with n >= ((t(1 - alpha/2) + t(power)) s / d)^2, both quantiles at n - 1 degrees of freedom: the
    usual sample size of a paired t test (Chow, Shao and Wang 2008, section 3.1). The estimate is rough, because
    the deviation of a few seeds is.

    Args:
        difference: mean d of the paired differences.
        deviation: standard deviation s of the paired differences over seeds.
        alpha: two-sided level, already divided by the number of comparisons where there are several.
        power: chance to see the difference.
        limit: largest answer that is worth giving.

    Returns:
        The number of seeds, or None where it is above `limit` or the difference is zero.
    """
    if difference == 0:
        return None

    def separates(n: int) -> bool:
        reach = student_quantile(1 - alpha / 2, n - 1) + student_quantile(power, n - 1)
        return n >= (reach * deviation / abs(difference)) ** 2

    candidates = range(3, limit + 1)
    found = bisect.bisect_left(candidates, True, key=separates)  # more seeds never separate worse
    return candidates[found] if found < len(candidates) else None


def clusters_to_separate(
    difference: float, interval: tuple[float, float], count: int, *, power: float = 0.8
) -> int | None:
    """Return how many videos (or episodes) would separate two checkpoints whose paired interval covers zero.

    Args:
        difference: the paired difference that was measured.
        interval: its 95 % interval.
        count: number of clusters behind it.
        power: chance to see the difference.

    Returns:
        The number of clusters (the interval shrinks with its square root), or None where the difference is zero.
    """
    if difference == 0:
        return None
    normal = NormalDist()
    error = (interval[1] - interval[0]) / (2 * normal.inv_cdf(0.975)) * math.sqrt(count)
    return math.ceil(((normal.inv_cdf(0.975) + normal.inv_cdf(power)) * error / abs(difference)) ** 2)


def student_tail(t: float, freedom: float) -> float:
    """Return P(T > t) of Student's t with `freedom` degrees of freedom, for t >= 0."""
    return 0.5 * _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


@functools.lru_cache(maxsize=1024)
def student_quantile(probability: float, freedom: float) -> float:
    """Return t with P(T <= t) = probability (0.5 <= probability < 1), by bisection."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > 1 - probability:
        high *= 2
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > 1 - probability else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b), from its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only below the mode
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    # Evaluated from its far end: no start value to guard, and 100 terms are enough for any number of seeds.
    tail = 0.0
    for m in range(100, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        tail = odd / (1 + even / (1 + tail))
    return front / (1 + tail)


def _cluster_sums(
    values: NDArray[np.generic], clusters: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Sum weighted values and weights in each cluster: two arrays (C,), clusters in sorted order."""
    figures = values.astype(np.float64)
    scale = np.ones_like(figures) if weights is None else np.asarray(weights, dtype=np.float64)
    labels = np.asarray(clusters)
    if figures.ndim != 1 or figures.size == 0 or labels.shape != figures.shape or scale.shape != figures.shape:
        raise ValueError(
            f"values {figures.shape}, clusters {labels.shape} and weights {scale.shape} must be equal and (n,)"
        )
    if not (np.isfinite(figures).all() and np.isfinite(scale).all()) or (scale < 0).any():
        raise ValueError("a value or weight is not finite, or a weight is negative")
    index = np.unique(labels, return_inverse=True)[1]
    sums, totals = (np.bincount(index, weights=of) for of in (figures * scale, scale))
    return sums.astype(np.float64), totals.astype(np.float64)


def _drawn_means(
    arms: list[tuple[FloatArray, FloatArray]], *, rng: np.random.Generator, draws: int
) -> list[FloatArray]:
    """Draw clusters R times and return the mean (R,) of every arm, the same draws for all arms."""
    count = arms[0][0].size
    step = max(1, _MAX_DRAWN // count)
    means = [np.empty(draws) for _ in arms]
    for start in range(0, draws, step):
        drawn = rng.integers(0, count, size=(min(step, draws - start), count))
        for mean, (sums, totals) in zip(means, arms, strict=True):
            weight = totals[drawn].sum(axis=1)
            # A draw of clusters without weight says nothing; its mean is the whole sample's.
            whole = sums.sum() / totals.sum()
            mean[start : start + len(drawn)] = np.divide(
                sums[drawn].sum(axis=1), weight, out=np.full_like(weight, whole), where=weight > 0
            )
    return means


def _percentiles(means: FloatArray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
