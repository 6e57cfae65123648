"""Shares of successes: one arm, two independent arms, two arms on the same items."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


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


def agresti_caffo(k_a: int, n_a: int, k_b: int, n_b: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of p_a - p_b for two independent arms (Agresti and Caffo 2000), as fractions.

    One success and one failure are added to each arm before the normal interval is taken. Unlike the plain one it keeps
    its coverage for small arms and does not shrink to a point at 0 % and 100 %.

    Raises:
        ValueError: an arm without trials, or more successes than trials.
    """
    shares, variance = [], 0.0
    for k, n in ((k_a, n_a), (k_b, n_b)):
        if n < 1 or not 0 <= k <= n:
            raise ValueError(f"{k} successes in {n} trials")
        share = (k + 1) / (n + 2)
        variance += share * (1 - share) / (n + 2)
        shares.append(share)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(variance)
    return max(-1.0, shares[0] - shares[1] - half), min(1.0, shares[0] - shares[1] + half)


class McNemar(NamedTuple):
    """Two arms on the same items: how many only one of them got right, and the exact two-sided p."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Return McNemar's exact test of two right/wrong outcomes (n,) on the same items (McNemar 1947).

    Items that both got right, or both wrong, say nothing; of the others each arm should win half. Items are taken as
    independent: where several share a video, p is too small, and the paired bootstrap over videos is the one to read.

    Raises:
        ValueError: outcomes that are no booleans, or of unequal lengths.
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.dtype != np.bool_ or second.dtype != np.bool_ or first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"outcomes must be bool and (n,), not {first.dtype}{first.shape}, {second.dtype}{second.shape}"
        )
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    count = only_a + only_b
    logs = (
        math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1) - count * math.log(2)
        for i in range(min(only_a, only_b) + 1)
    )
    return McNemar(only_a, only_b, min(1.0, 2 * math.fsum(map(math.exp, logs))))
