"""Student's t over training seeds, and Holm's correction: the only statistics that may separate two methods."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


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
