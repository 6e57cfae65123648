"""Intervals and tests against known values, other implementations and simulated coverage."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ocwm import stats
from ocwm.stats import bootstrap


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30, 99])
def test_student_agrees_with_scipy(freedom: int) -> None:
    for probability in (0.5, 0.6, 0.9, 0.975, 0.995, 0.9999):
        expected = scipy_stats.t.ppf(probability, freedom)
        assert stats.student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8, abs=1e-11)
    for t in (0.0, 0.1, 1.0, 4.0, 50.0):
        assert stats.student_tail(t, freedom) == pytest.approx(scipy_stats.t.sf(t, freedom), rel=1e-8)


def test_student_interval_of_a_known_sample() -> None:
    # t(0.975, 2) = 4.30265; figures 1, 2, 3 have mean 2 and standard error 1 / sqrt(3).
    test = stats.student_interval([1.0, 2.0, 3.0])
    assert (test.mean, test.n) == (2.0, 3)
    assert test.low == pytest.approx(2 - 4.30265 / np.sqrt(3), abs=1e-5)
    assert test.high == pytest.approx(2 + 4.30265 / np.sqrt(3), abs=1e-5)
    assert test.p_value == pytest.approx(scipy_stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue, rel=1e-9)
    assert test.deviation == pytest.approx(1.0)


def test_student_interval_needs_three_finite_seeds() -> None:
    with pytest.raises(ValueError, match="at least 3 seeds, not 2"):
        stats.student_interval([1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        stats.student_interval([1.0, np.nan, 2.0])
    assert stats.student_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5, 0.0, 3)
    assert stats.student_interval([0.0, 0.0, 0.0]).p_value == 1.0


def test_three_seeds_keep_the_level_that_a_bootstrap_over_seeds_does_not() -> None:
    """Null differences of three seeds: Student rejects 5 %, the percentile bootstrap some 24 %."""
    draws = rng().normal(size=(2000, 3))
    student = np.mean([stats.student_interval(d).p_value < 0.05 for d in draws])
    # With three seeds the bootstrap's 2.5 % point is the smallest figure (1 / 27 of all draws are all of it).
    bootstrap = np.mean((draws.min(axis=1) > 0) | (draws.max(axis=1) < 0))
    assert student == pytest.approx(0.05, abs=0.015)
    assert bootstrap > 0.2


def test_holm_of_a_known_family() -> None:
    # Holm 1979 by hand: sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("k", "n"), [(137, 150), (8, 150), (0, 20), (20, 20), (1, 1)])
def test_wilson_agrees_with_scipy(k: int, n: int) -> None:
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_published_rates() -> None:
    # Push-T, 137 of 150 episodes: 85.7 to 94.9 %.
    assert stats.wilson(137, 150) == pytest.approx((0.857, 0.949), abs=5e-4)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        stats.wilson(3, 2)


def clustered(
    generator: np.random.Generator, *, clusters: int, size: int, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return values with mean 0 and a shared part in every cluster, and the cluster of each."""
    shared = generator.normal(scale=spread, size=clusters)
    index = np.repeat(np.arange(clusters), size)
    return shared[index] + generator.normal(size=len(index)), index


def test_cluster_bootstrap_covers_where_items_alone_would_not() -> None:
    generator, covered, narrow = rng(1), 0, 0
    trials = 200
    for _ in range(trials):
        values, index = clustered(generator, clusters=60, size=10, spread=1.0)
        low, high = stats.cluster_bootstrap(values, index, rng=generator, draws=400)
        assert low is not None
        assert high is not None
        covered += low <= 0 <= high
        half = 1.96 * values.std() / np.sqrt(len(values))
        narrow += abs(values.mean()) <= half
    assert covered / trials > 0.9
    assert narrow / trials < 0.7


def test_paired_bootstrap_covers_and_is_narrower_than_unpaired() -> None:
    generator, covered = rng(2), 0
    trials = 200
    for _ in range(trials):
        base, index = clustered(generator, clusters=60, size=5, spread=2.0)
        a, b = base + generator.normal(size=len(base)) + 0.3, base + generator.normal(size=len(base))
        low, high = stats.paired_cluster_bootstrap(a, b, index, rng=generator, draws=400)
        assert low is not None
        assert high is not None
        covered += low <= 0.3 <= high
    assert 0.9 < covered / trials < 0.99
    alone = stats.cluster_bootstrap(a, index, rng=generator)
    assert alone[0] is not None
    assert alone[1] is not None
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_bootstrap_agrees_with_the_plain_loop() -> None:
    generator = rng(3)
    index = generator.integers(0, 40, 500)
    values, weights = generator.random(500), generator.random(500)
    low, high = stats.cluster_bootstrap(values, index, rng=rng(4), draws=4000, weights=weights)
    groups = [np.flatnonzero(index == cluster) for cluster in range(40)]
    means = []
    for _ in range(4000):
        drawn = np.concatenate([groups[cluster] for cluster in generator.integers(0, 40, 40)])
        means.append(np.average(values[drawn], weights=weights[drawn]))
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.004)


def test_weights_make_ratios() -> None:
    """F1 over clips: the mean of 2TP / (2TP + FP + FN) weighted by its denominator; clips without events drop out."""
    generator = rng(5)
    hits, misses = generator.integers(0, 3, 200), generator.integers(0, 2, 200)
    weights = 2 * hits + misses
    values = np.divide(2 * hits, weights, out=np.zeros(200), where=weights > 0)
    assert stats.weighted_mean(values, weights) == pytest.approx(2 * hits.sum() / (2 * hits.sum() + misses.sum()))
    low, high = stats.cluster_bootstrap(values, np.arange(200), rng=generator, weights=weights)
    assert low is not None
    assert high is not None
    assert low < stats.weighted_mean(values, weights) < high


def test_outcomes_that_are_all_equal_keep_some_width() -> None:
    index = np.repeat(np.arange(30), 4)
    low, high = stats.cluster_bootstrap(np.ones(120, dtype=bool), index, rng=rng())
    assert (low, high) == pytest.approx(stats.wilson(30, 30))
    assert stats.cluster_bootstrap(np.full(120, 0.25), index, rng=rng()) == (0.25, 0.25)


def test_one_cluster_has_no_interval_and_bad_values_are_refused() -> None:
    assert stats.cluster_bootstrap([1.0, 2.0], [7, 7], rng=rng()) == (None, None)
    assert stats.paired_cluster_bootstrap([1.0, 2.0], [1.0, 1.0], [7, 7], rng=rng()) == (None, None)
    for values, index in (([], []), ([1.0, np.nan], [1, 2]), ([1.0, 2.0], [1])):
        with pytest.raises(ValueError, match=r"must be equal|not finite"):
            stats.cluster_bootstrap(values, index, rng=rng())


def test_same_generator_same_interval_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, index = clustered(rng(6), clusters=50, size=3, spread=1.0)
    first = stats.cluster_bootstrap(values, index, rng=rng(7))
    assert stats.cluster_bootstrap(values, index, rng=rng(7)) == first
    monkeypatch.setattr(bootstrap, "_MAX_DRAWN", 1000)
    assert stats.cluster_bootstrap(values, index, rng=rng(7)) == pytest.approx(first, rel=0.05)


def test_bootstrap_is_fast() -> None:
    generator = rng(8)
    values, index = generator.random(20_000) < 0.7, generator.integers(0, 600, 20_000)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        stats.cluster_bootstrap(values, index, rng=generator)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(("difference", "deviation"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.4)])
def test_seeds_to_separate_gives_the_power_that_it_names(difference: float, deviation: float) -> None:
    n = stats.seeds_to_separate(difference, deviation)
    assert n is not None

    def power(seeds: int) -> float:
        critical = scipy_stats.t.ppf(0.975, seeds - 1)
        shift = difference / deviation * np.sqrt(seeds)
        return float(scipy_stats.nct.sf(critical, seeds - 1, shift))

    assert power(n) > 0.77
    assert power(n - 2) < 0.8 or n == 3


def test_seeds_to_separate_ends() -> None:
    assert stats.seeds_to_separate(0.0, 1.0) is None
    assert stats.seeds_to_separate(0.01, 1.0) is None
    assert stats.seeds_to_separate(100.0, 1.0) == 3
    strict = stats.seeds_to_separate(1.0, 1.0, alpha=0.05 / 20)
    plain = stats.seeds_to_separate(1.0, 1.0)
    assert strict is not None
    assert plain is not None
    assert strict > plain


def test_clusters_to_separate_of_a_known_case() -> None:
    # Interval 0.1 +- 0.2 on 100 clusters: ((1.96 + 0.8416) / 1.96 * 2)^2 * 100 = 817.
    assert stats.clusters_to_separate(0.1, (-0.1, 0.3), 100) == pytest.approx(818, abs=1)
    assert stats.clusters_to_separate(0.0, (-0.1, 0.1), 100) is None
