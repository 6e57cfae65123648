"""The figures of the interaction diagnostics.

Shape letters: V videos, C cuts, n objects, K frames after a cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.stats import cluster_bootstrap
from ocwm.types import Metric, MetricValue
from ocwm_tasks.interactions.auroc import auroc_interval
from ocwm_tasks.interactions.truth import Truth

NOTHING = MetricValue(value=0.0, n=0)
INTERVAL = "bootstrap over videos"
RECENCY = ((0, 8), (8, 16), (16, 32), (32, None))  # frames since an object's last collision

Float32 = NDArray[np.float32]


def recency_name(low: int, high: int | None) -> str:
    """Key of a range of frames since the last collision."""
    return f"recency.error.{low}-{high - 1}" if high is not None else f"recency.error.{low}+"


def declare(unit: str = "world units") -> tuple[Metric, ...]:
    """All metrics of a run."""
    return (
        Metric("influence.ablation.auroc", "%", True, "does removing an object change whom it truly changes"),
        Metric("influence.attention.auroc", "%", True, "is attention paid to those who truly influence"),
        Metric("counterfactual.affected.error", unit, False, "objects that a removal truly moves, without the object"),
        Metric("counterfactual.affected.unchanged", unit, False, "the same, answered as if nothing was removed"),
        Metric("counterfactual.affected.gain", unit, True, "how much nearer the first answer is than the second"),
        Metric("counterfactual.unaffected.error", unit, False, "objects that a removal does not move"),
        *(Metric(recency_name(*span), unit, False, "rollout error by frames since a collision") for span in RECENCY),
        Metric("recency.error.never", unit, False, "rollout error of objects that had no collision yet"),
    )


@dataclass
class Figures:
    """Collects values with intervals over videos, and the items behind them.

    Attributes:
        truth: the simulated truth; `affected` is the distance from which on an object counts as moved.
        affected: see there.
        rng, draws: of the bootstrap.
        values: by metric key.
        items: arrays to be stored beside the record.
    """

    truth: Truth
    affected: float
    rng: np.random.Generator
    draws: int
    values: dict[str, MetricValue] = field(default_factory=dict)
    items: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        moved = self.truth.moved
        self._moved = moved
        self._pairs = np.isfinite(moved)
        self._number = np.arange(moved.size).reshape(moved.shape)
        self.items["pairs.moved"] = moved[self._pairs]
        self.items["pairs.video"] = self._videos(self._pairs)

    @property
    def base_rate(self) -> float:
        """Share of the pairs in which the removal moves the other object."""
        return float((self._moved[self._pairs] > self.affected).mean())

    def add_influence(self, name: str, score: Float32) -> None:
        """Add the AUROC of scores (V, C, n, n), [removed or attended, other]."""
        kept = self._pairs & np.isfinite(score)
        truth = self._moved[kept] > self.affected
        value, low, high = auroc_interval(truth, score[kept], self._videos(kept), rng=self.rng, draws=self.draws)
        self.items[f"pairs.{name}"] = score[self._pairs].astype(np.float32)
        if np.isfinite(value):
            low, high = (None if end is None else 100 * end for end in (low, high))
            self.values[f"influence.{name}.auroc"] = MetricValue(
                value=100 * value, n=int(kept.sum()), low=low, high=high, interval=INTERVAL
            )

    def add_counterfactuals(self, without: Float32, with_all: Float32) -> None:
        """Add the errors of imagined positions without each object (V, C, n, K, n, 2), and with all (V, C, K, n, 2)."""
        answered = _mean_distance(without, self.truth.without)  # (V, C, n, n)
        unchanged = _mean_distance(with_all[:, :, None], self.truth.without)
        moved = self._pairs & (self._moved > self.affected)
        self._add("counterfactual.affected.error", answered, moved)
        self._add("counterfactual.affected.unchanged", unchanged, moved)
        self._add("counterfactual.affected.gain", unchanged - answered, moved)
        self._add("counterfactual.unaffected.error", answered, self._pairs & (self._moved <= self.affected))

    def add_recency(self, with_all: Float32) -> None:
        """Add the errors of rollouts (V, C, K, n, 2) by the time since each object's last collision."""
        error, since = _mean_distance(with_all, self.truth.with_all), self.truth.since_collision  # (V, C, n)
        for low, high in RECENCY:
            chosen = (since >= low) & (since < (high if high is not None else np.inf))
            self._add(recency_name(low, high), error, self.truth.known & chosen)
        self._add("recency.error.never", error, self.truth.known & (since < 0))

    def complete(self) -> dict[str, MetricValue]:
        """Values of all declared metrics, in their order."""
        return {metric.name: self.values.get(metric.name, NOTHING) for metric in declare()}

    def _videos(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self.truth.index[np.nonzero(chosen)[0]]

    def _add(self, key: str, error: NDArray[np.floating], chosen: NDArray[np.bool_]) -> None:
        kept = chosen & np.isfinite(error)
        if not kept.any():
            return
        values, videos = error[kept].astype(np.float64), self._videos(kept)
        low, high = cluster_bootstrap(values, videos, rng=self.rng, draws=self.draws)
        self.values[key] = MetricValue(value=float(values.mean()), n=len(values), low=low, high=high, interval=INTERVAL)
        number = np.arange(error.size).reshape(error.shape)
        self.items[key] = values.astype(np.float32)
        self.items[f"{key}@item"] = number[kept].astype(np.int32)
        self.items[f"{key}@cluster"] = videos.astype(np.int32)


def _mean_distance(found: Float32, truth: Float32) -> NDArray[np.float64]:
    """Mean distance over the frames (third axis from the end) in which the truth is known; nan where it never is."""
    distance = np.linalg.norm(found - truth, axis=-1)
    known = np.isfinite(distance)
    count = known.sum(axis=-2)
    total = np.where(known, distance, 0.0).sum(axis=-2, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
