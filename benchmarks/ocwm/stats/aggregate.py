"""Figures over many training seeds (ten and more): interquartile mean, probability of improvement, their intervals.

With fewer seeds a bootstrap over seeds excludes zero far too often: `student_interval` is for those.

Letters: S training seeds, R bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_RUNS = 10

FloatArray = NDArray[np.float64]


def iqm(values: ArrayLike) -> float:
    """Return the interquartile mean: the mean of the middle half (Agarwal et al. 2021).

    A quarter of the figures is cut off at each end, rounded down, so fewer than four figures are all kept.

    Raises:
        ValueError: no figures, or one that is not finite.
    """
    figures = np.sort(_finite(values))
    cut = figures.size // 4
    return float(figures[cut : figures.size - cut].mean())


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """Return P(A > B) + P(A = B) / 2 for one run drawn from each: Mann-Whitney's U by its largest value.

    Args:
        a, b: (S,) figures of the training seeds of two methods, in which more is better; S may differ.

    Raises:
        ValueError: no figures, or one that is not finite.
    """
    first, second = _finite(a), _finite(b)
    above = first[:, None] > second[None, :]
    equal = first[:, None] == second[None, :]
    return float((above + 0.5 * equal).mean())


def run_bootstrap(
    strata: Sequence[Sequence[ArrayLike]],
    statistic: Callable[..., float],
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the stratified bootstrap interval of a statistic over training seeds, averaged over strata.

    Args:
        strata: for each stratum (a task, a preset) the figures (S,) of every method that the statistic takes: one for
            `iqm`, two for `probability_of_improvement`. Seeds are drawn within each stratum and method.
        statistic: of one stratum.
        rng: the only source of randomness.
        draws: number R of bootstrap samples.
        confidence: coverage of the interval.

    Raises:
        ValueError: no strata, or fewer than ten seeds somewhere.
    """
    arms = [[_finite(figures) for figures in stratum] for stratum in strata]
    if not arms or min(figures.size for stratum in arms for figures in stratum) < MIN_RUNS:
        raise ValueError(f"a bootstrap over seeds needs at least {MIN_RUNS} of them in every stratum")
    found = np.empty(draws)
    for draw in range(draws):
        of_strata = [statistic(*(rng.choice(figures, figures.size) for figures in stratum)) for stratum in arms]
        found[draw] = np.mean(of_strata)
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def _finite(values: ArrayLike) -> FloatArray:
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or figures.size == 0 or not np.isfinite(figures).all():
        raise ValueError("figures must be finite, (S,), and at least one")
    return figures
