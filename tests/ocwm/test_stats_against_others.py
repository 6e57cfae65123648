"""The statistics beside other implementations (scipy, statsmodels) and beside published worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
    samplesize_proportions_2indep_onetail,
)

from ocwm import stats


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (133, 150), (1, 3)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson(k: int, n: int, confidence: float) -> None:
    expected = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
    assert stats.wilson(k, n, confidence=confidence) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "arms", [(133, 150, 114, 150), (0, 50, 0, 50), (50, 50, 0, 50), (20, 20, 19, 20), (1, 1, 0, 7)]
)
def test_agresti_caffo(arms: tuple[int, int, int, int]) -> None:
    expected = confint_proportions_2indep(*arms, method="agresti-caffo", compare="diff")
    low, high = stats.agresti_caffo(*arms)
    assert (low, high) == pytest.approx(np.clip(expected, -1, 1), abs=1e-12)  # theirs may leave the range
    assert low < high
    swapped = stats.agresti_caffo(*arms[2:], *arms[:2])
    assert swapped == pytest.approx((-high, -low))


def test_agresti_caffo_of_published_push_t_rates() -> None:
    # C-JEPA, table 3: C-JEPA 133, OC-JEPA 114, OC-DINO-WM 91, DINO-WM 137 of 150 episodes.
    assert stats.agresti_caffo(137, 150, 133, 150) == pytest.approx((-0.043, 0.095), abs=1e-3)
    assert stats.agresti_caffo(133, 150, 114, 150) == pytest.approx((0.040, 0.210), abs=1e-3)
    assert stats.agresti_caffo(114, 150, 91, 150) == pytest.approx((0.048, 0.255), abs=1e-3)
    with pytest.raises(ValueError, match="4 successes in 3 trials"):
        stats.agresti_caffo(4, 3, 1, 3)


def paired(only_a: int, only_b: int, *, both: int = 3) -> tuple[np.ndarray, np.ndarray]:
    a = np.array([True] * only_a + [False] * only_b + [True] * both)
    b = np.array([False] * only_a + [True] * only_b + [True] * both)
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (0, 9), (5, 5), (12, 3), (700, 640)])
def test_mcnemar(only_a: int, only_b: int) -> None:
    a, b = paired(only_a, only_b)
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    found = stats.mcnemar(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(their_mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_mcnemar_of_equal_arms_and_of_what_is_no_outcome() -> None:
    hits = np.ones(40, dtype=bool)
    assert stats.mcnemar(hits, hits).p_value == 1.0
    with pytest.raises(ValueError, match="must be bool"):
        stats.mcnemar([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="must be bool"):
        stats.mcnemar(hits, hits[1:])


def test_holm_agrees_with_statsmodels() -> None:
    for count in (1, 2, 7, 24):
        values = rng(count).random(count) ** 3
        assert stats.holm(list(values)) == pytest.approx(multipletests(values, method="holm")[1])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 11, 40])
def test_iqm_agrees_with_scipy(size: int) -> None:
    values = rng(size).normal(size=size)
    assert stats.iqm(values) == pytest.approx(scipy_stats.trim_mean(values, 0.25))


def test_iqm_ignores_one_bad_run_and_keeps_ties() -> None:
    assert stats.iqm([5.0] * 7) == 5.0
    assert stats.iqm([1.0, 2.0, 3.0, -1e9]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="at least one"):
        stats.iqm([])


def test_probability_of_improvement_agrees_with_mann_whitney() -> None:
    generator = rng(1)
    a, b = generator.integers(0, 6, 17), generator.integers(1, 7, 12)  # full of ties
    u = scipy_stats.mannwhitneyu(a, b).statistic
    assert stats.probability_of_improvement(a, b) == pytest.approx(u / (17 * 12))
    assert stats.probability_of_improvement([1.0], [1.0]) == 0.5
    assert stats.probability_of_improvement([2.0, 3.0], [1.0]) == 1.0
    assert stats.probability_of_improvement(a, b) + stats.probability_of_improvement(b, a) == pytest.approx(1.0)


def test_bootstrap_over_seeds_agrees_with_scipy_and_wants_ten() -> None:
    values = rng(2).normal(50, 3, 20)
    low, high = stats.run_bootstrap([[values]], stats.iqm, rng=rng(3), draws=4000)
    theirs = scipy_stats.bootstrap(
        (values,), lambda x, axis: np.apply_along_axis(stats.iqm, axis, x), n_resamples=4000, method="percentile",
        rng=rng(4),
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.15)
    same = stats.run_bootstrap([[values, values + 100]] * 2, stats.probability_of_improvement, rng=rng(5), draws=50)
    assert same == (0.0, 0.0)
    with pytest.raises(ValueError, match="at least 10"):
        stats.run_bootstrap([[values], [values[:9]]], stats.iqm, rng=rng())
    with pytest.raises(ValueError, match="at least 10"):
        stats.run_bootstrap([], stats.iqm, rng=rng())


def test_seed_stratified_bootstrap_covers_and_shares_videos() -> None:
    """Three checkpoints on the same 80 videos: the hard videos are hard for all, so more seeds don't narrow much."""
    generator, covered, trials = rng(6), 0, 200
    index = np.repeat(np.arange(80), 4)
    for _ in range(trials):
        shared = generator.normal(size=80)[index]
        runs = [(shared + generator.normal(scale=0.3, size=320), index) for _ in range(3)]
        low, high = stats.seed_stratified_bootstrap(runs, rng=generator, draws=300)
        assert low is not None
        assert high is not None
        covered += low <= 0 <= high
    assert 0.9 < covered / trials < 0.99
    apart = [(values, index + 1000 * number) for number, (values, _) in enumerate(runs)]
    narrow = stats.seed_stratified_bootstrap(apart, rng=generator)
    assert narrow[0] is not None
    assert narrow[1] is not None
    assert narrow[1] - narrow[0] < 0.75 * (high - low)


def test_seed_stratified_bootstrap_of_one_run_is_the_plain_one_and_counts_every_seed_alike() -> None:
    values, index = rng(7).normal(size=300), rng(8).integers(0, 40, 300)
    one = stats.seed_stratified_bootstrap([(values, index)], rng=rng(9))
    assert one == stats.cluster_bootstrap(values, index, rng=rng(9))
    # A seed with a tenth of the items (missing cells) weighs as much as the other.
    low, high = stats.seed_stratified_bootstrap(
        [(np.zeros(1000), np.arange(1000)), (np.ones(100), np.arange(100))], rng=rng(10)
    )
    assert (low, high) == (0.5, 0.5)
    assert stats.seed_stratified_bootstrap([(values, index), ([1.0, 2.0], [3, 3])], rng=rng()) == (None, None)
    with pytest.raises(ValueError, match="no runs"):
        stats.seed_stratified_bootstrap([], rng=rng())


@pytest.mark.parametrize(("p_a", "p_b"), [(0.8867, 0.9133), (0.8867, 0.8467), (0.5, 0.6), (0.0, 0.1), (1.0, 0.9)])
def test_episodes_to_separate(p_a: float, p_b: float) -> None:
    found = stats.episodes_to_separate(p_a, p_b)
    theirs = samplesize_proportions_2indep_onetail(p_a - p_b, p_b, power=0.8, alpha=0.025, alternative="larger")
    assert found == pytest.approx(abs(float(theirs)), rel=0.01, abs=1)


def test_episodes_of_known_cases() -> None:
    # Fleiss, Levin and Paik 2003, section 4.2: 60 % against 70 %, level 1 % two-sided, power 95 %: 827 an arm with
    # their continuity correction, which is added here.
    plain = stats.episodes_to_separate(0.6, 0.7, alpha=0.01, power=0.95)
    assert plain is not None
    assert plain / 4 * (1 + math.sqrt(1 + 4 / (plain * 0.1))) ** 2 == pytest.approx(827, abs=1.5)
    assert stats.episodes_to_separate(0.4, 0.4) is None
    assert [stats.episodes_for_half_width(width) for width in (0.05, 0.03, 0.02)] == [277, 769, 1729]
    assert stats.episodes_for_half_width(0.05, rate=1.0) == 1
    with pytest.raises(ValueError, match="success rates"):
        stats.episodes_to_separate(1.2, 0.5)
    with pytest.raises(ValueError, match="half width"):
        stats.episodes_for_half_width(0.0)


@pytest.mark.parametrize("effect", [0.4, 0.8, 1.5])
def test_seeds_to_separate_agrees_with_the_exact_power(effect: float) -> None:
    n = stats.seeds_to_separate(effect, 1.0)
    assert n is not None
    exact = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)
    assert abs(n - math.ceil(exact)) <= 1


def test_nested_variance_agrees_with_a_mixed_model() -> None:
    """Balanced and with positive components, the classical estimates are those of REML."""
    generator = rng(11)
    figures = generator.normal(0, 2, (8, 1)) + generator.normal(0, 1, (8, 5))
    found = stats.nested_variance(list(figures))
    fitted = MixedLM(figures.ravel(), np.ones(40), groups=np.repeat(np.arange(8), 5)).fit(reml=True)
    assert found.inner == pytest.approx(fitted.scale, rel=1e-3)
    assert found.outer == pytest.approx(float(np.asarray(fitted.cov_re)[0, 0]), rel=1e-2)
    assert found.outer_share > 0.5
    f_value = scipy_stats.f_oneway(*figures).statistic
    assert (found.inner + 5 * found.outer) / found.inner == pytest.approx(f_value)


def test_nested_variance_ends() -> None:
    assert stats.nested_variance([[1.0, 1.0], [1.0, 1.0]])[:2] == (0.0, 0.0)
    assert math.isnan(stats.nested_variance([[1.0, 1.0], [1.0, 1.0]]).outer_share)
    assert stats.nested_variance([[1.0, 1.0], [3.0, 3.0]]).outer_share == 1.0
    assert stats.nested_variance([[0.0, 2.0], [0.0, 2.0]]).outer == 0.0  # the estimate is negative
    uneven = stats.nested_variance([[1.0, 2.0, 3.0], [5.0]])
    assert (uneven.outer_seeds, uneven.runs) == (2, 4)
    for groups in ([[1.0, 2.0]], [[1.0], [2.0]]):
        with pytest.raises(ValueError, match="two outer seeds"):
            stats.nested_variance(groups)
