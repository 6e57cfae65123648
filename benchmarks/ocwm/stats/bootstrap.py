"""Bootstrap intervals over items that come in clusters (videos, episodes), for one run, two runs, or one run a seed.

Letters: n items, C clusters, S training seeds, R bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocwm.stats.proportions import wilson

FloatArray = NDArray[np.float64]
Interval = tuple[float, float] | tuple[None, None]

_MAX_DRAWN = 4_000_000  # cluster indices drawn at once: bounds the memory of a bootstrap to some 100 MB


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


def seed_stratified_bootstrap(
    runs: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    weights: Sequence[ArrayLike | None] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Return the bootstrap interval of the mean over training seeds of the runs' means, drawing clusters within seeds.

    Seeds are strata: every draw holds each of them once, so the interval is that of these checkpoints together. The same
    clusters are drawn for all runs that were measured on the same ones, because a hard video is hard for all of them.

    Args:
        runs: for each of S training seeds the figures (n,) and their clusters (n,); n may differ.
        rng: the only source of randomness.
        draws: number R of bootstrap samples.
        weights: for each run (n,) weights, or None.
        confidence: coverage of the interval.

    Returns:
        (low, high), or (None, None) where a run has fewer than two clusters that carry weight.

    Raises:
        ValueError: no runs, no items, unequal lengths, or a value that is not finite.
    """
    if not runs:
        raise ValueError("no runs")
    labels = np.unique(np.concatenate([np.unique(np.asarray(clusters)) for _, clusters in runs]))
    arms = []
    for number, (values, clusters) in enumerate(runs):
        sums, totals = _cluster_sums(np.asarray(values), clusters, None if weights is None else weights[number])
        # Clusters that this run lacks carry no weight in it: drawing one changes nothing.
        place = np.searchsorted(labels, np.unique(np.asarray(clusters)))
        wide = np.zeros((2, len(labels)))
        wide[0, place], wide[1, place] = sums, totals
        arms.append((wide[0], wide[1]))
    if min(int(np.count_nonzero(totals)) for _, totals in arms) < 2:
        return None, None
    return _percentiles(np.mean(_drawn_means(arms, rng=rng, draws=draws), axis=0), confidence)


def weighted_mean(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return sum(w v) / sum(w) of (n,) values: the estimate that the bootstrap intervals belong to."""
    figures = np.asarray(values, dtype=np.float64)
    return float(np.average(figures, weights=None if weights is None else np.asarray(weights, dtype=np.float64)))


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
