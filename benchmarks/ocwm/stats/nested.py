"""How much of a spread comes from an outer seed and how much from a seed nested in it.

Letters: G outer seeds (world models), m inner seeds of each (reasoners).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class NestedVariance(NamedTuple):
    """Components of variance of a nested design.

    Attributes:
        outer: variance that the outer seed adds, never below 0.
        inner: variance between inner seeds of one outer seed.
        outer_seeds: number G.
        runs: number of figures.
    """

    outer: float
    inner: float
    outer_seeds: int
    runs: int

    @property
    def outer_share(self) -> float:
        """Share 0..1 of the variance that the outer seed explains; NaN where nothing varies."""
        total = self.outer + self.inner
        return self.outer / total if total > 0 else math.nan


def nested_variance(groups: Sequence[ArrayLike]) -> NestedVariance:
    """Return the components of variance of figures by outer seed, one-way random effects (Searle et al. 1992, ch. 3).

    Between mean squares estimate inner + m outer, within mean squares estimate inner; with unequal group sizes m is
    (N - sum(m^2) / N) / (G - 1). A negative estimate of the outer component is reported as 0.

    Args:
        groups: for each of G outer seeds the figures (m,) of its inner seeds.

    Raises:
        ValueError: fewer than two outer seeds, no outer seed with two inner ones, or a figure that is not finite.
    """
    arms = [np.asarray(group, dtype=np.float64) for group in groups]
    sizes = np.array([arm.size for arm in arms])
    if len(arms) < 2 or sizes.min() < 1 or sizes.sum() == len(arms):
        raise ValueError("two outer seeds are needed, and one of them with two inner seeds")
    if not all(np.isfinite(arm).all() for arm in arms):
        raise ValueError("a figure is not finite")
    count, total = len(arms), int(sizes.sum())
    means = np.array([arm.mean() for arm in arms])
    grand = float(np.concatenate(arms).mean())
    within = sum(float(((arm - mean) ** 2).sum()) for arm, mean in zip(arms, means, strict=True)) / (total - count)
    between = float((sizes * (means - grand) ** 2).sum()) / (count - 1)
    typical = (total - float((sizes**2).sum()) / total) / (count - 1)
    return NestedVariance(max(0.0, (between - within) / typical), within, count, total)
