"""How many seeds, videos or episodes would separate two figures: what to say instead of a verdict.

Every answer takes the observed figures for the true ones, so it is rough: good for planning the next runs.
"""

from __future__ import annotations

import bisect
import math
from statistics import NormalDist

from ocwm.stats.student import student_quantile


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


def episodes_to_separate(p_a: float, p_b: float, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return how many episodes in each of two independent arms would separate two success rates.

    The sample size of the two-sided z test of two proportions (Fleiss, Levin and Paik 2003, equation 4.14, without its
    continuity correction).

    Args:
        p_a, p_b: success rates 0..1, taken for the true ones.
        alpha: two-sided level.
        power: chance to see the difference.

    Returns:
        Episodes of one arm, or None where the rates are equal.

    Raises:
        ValueError: a rate outside 0..1.
    """
    if not (0 <= p_a <= 1 and 0 <= p_b <= 1):
        raise ValueError(f"success rates {p_a} and {p_b}")
    if p_a == p_b:
        return None
    normal, middle = NormalDist(), (p_a + p_b) / 2
    null = normal.inv_cdf(1 - alpha / 2) * math.sqrt(2 * middle * (1 - middle))
    true = normal.inv_cdf(power) * math.sqrt(p_a * (1 - p_a) + p_b * (1 - p_b))
    return math.ceil(((null + true) / (p_a - p_b)) ** 2)


def episodes_for_half_width(half_width: float, *, rate: float = 0.9, confidence: float = 0.95) -> int:
    """Return how many episodes in each of two independent arms give the difference an interval of +- `half_width`.

    Args:
        half_width: wanted, as a fraction.
        rate: success rate of both arms.
        confidence: coverage of the interval.

    Raises:
        ValueError: a width that is not positive, or a rate outside 0..1.
    """
    if half_width <= 0 or not 0 <= rate <= 1:
        raise ValueError(f"half width {half_width} at rate {rate}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return max(1, math.ceil(2 * rate * (1 - rate) * (z / half_width) ** 2))
