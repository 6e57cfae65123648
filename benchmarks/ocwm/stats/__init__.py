"""Intervals and tests: over items of one checkpoint, and over training seeds of a method.

Two kinds of uncertainty are kept apart. *Item-level* statistics (bootstrap over videos, Wilson, Agresti-Caffo, McNemar)
say how sure we are about the checkpoints that were measured. *Seed-level* statistics (Student's t over training seeds,
Holm) say something about methods. Only the second kind may separate two methods. docs/statistics.md has the rules.
"""

from ocwm.stats.aggregate import MIN_RUNS, iqm, probability_of_improvement, run_bootstrap
from ocwm.stats.bootstrap import (
    cluster_bootstrap,
    paired_cluster_bootstrap,
    seed_stratified_bootstrap,
    weighted_mean,
)
from ocwm.stats.nested import NestedVariance, nested_variance
from ocwm.stats.power import (
    clusters_to_separate,
    episodes_for_half_width,
    episodes_to_separate,
    seeds_to_separate,
)
from ocwm.stats.proportions import McNemar, agresti_caffo, mcnemar, wilson
from ocwm.stats.student import SeedTest, holm, student_interval, student_quantile, student_tail

__all__ = [
    "MIN_RUNS",
    "McNemar",
    "NestedVariance",
    "SeedTest",
    "agresti_caffo",
    "cluster_bootstrap",
    "clusters_to_separate",
    "episodes_for_half_width",
    "episodes_to_separate",
    "holm",
    "iqm",
    "mcnemar",
    "nested_variance",
    "paired_cluster_bootstrap",
    "probability_of_improvement",
    "run_bootstrap",
    "seed_stratified_bootstrap",
    "seeds_to_separate",
    "student_interval",
    "student_quantile",
    "student_tail",
    "weighted_mean",
    "wilson",
]
