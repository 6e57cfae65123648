"""The figures of a CLEVRER run: what is declared, and how values and their intervals are made.

Shape letters: V videos, E horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.stats import cluster_bootstrap
from ocwm.types import Metric, MetricValue
from ocwm_tasks.clevrer import accuracy
from ocwm_tasks.clevrer.accuracy import INTERVAL, Answered, Items
from ocwm_tasks.clevrer.rollout_metrics import PerVideo

NOTHING = MetricValue(value=0.0, n=0)  # declared, but there is nothing to measure it on
EXTRA_SYMBOLIC = ("counterfactual.flipped", "counterfactual.same", "counterfactual.free_running")


def declare(reasoners: Sequence[str], *, horizons: Sequence[int], unit: str) -> tuple[Metric, ...]:
    """All metrics of a run: rollout errors, then the accuracies of each reasoner."""
    rollout = (
        *(
            Metric(f"rollout.position_error.{h}", unit, False, f"mean distance to the true position after {h} frames")
            for h in horizons
        ),
        *(Metric(f"rollout.slot_error.{h}", "mse", False, f"latent error after {h} frames") for h in horizons),
        Metric("rollout.collision_f1.all", "%", True, "first contacts of pairs in the predicted frames"),
        Metric("rollout.collision_f1.eventful", "%", True, "the same, on videos with such a contact"),
    )
    found = list(rollout)
    for name in reasoners:
        found += accuracy.declare(name)
        if name == "symbolic":
            found += [Metric(f"symbolic.{key}", "%", True) for key in EXTRA_SYMBOLIC]
    return tuple(found)


def declare_unmatched(
    reasoners: Sequence[str], *, horizons: Sequence[int], future_known: bool, observed: int, steps: int
) -> tuple[Metric, ...]:
    """All metrics of a run whose slots are matched with no object: slot errors, then the accuracies of each reasoner.

    Args:
        reasoners: names.
        horizons: predicted frames after which the error is given.
        future_known: whether the real slots after the observed frames are known; else the last of these are held back.
        observed: number of observed frames.
        steps: number of predicted frames.
    """
    what = "latent error" if future_known else f"latent error in frames {observed - steps}..{observed - 1}, held back,"
    name = slot_error_name(future_known=future_known)
    errors = (Metric(f"{name}.{h}", "mse", False, f"{what} after {h} frames") for h in horizons)
    return (*errors, *(metric for reasoner in reasoners for metric in accuracy.declare(reasoner)))


def slot_error_name(*, future_known: bool) -> str:
    """Key of the slot error without its horizon: of the real future, or of the last observed frames."""
    return "rollout.slot_error" if future_known else "rollout.held_back_slot_error"


@dataclass
class Figures:
    """Collects values with intervals, and the items behind them.

    Attributes:
        rng: of the bootstrap.
        draws: of the bootstrap.
        values: by metric key.
        items: arrays to be stored beside the record: `KEY`, `KEY@item`, `KEY@cluster`, `KEY@weight`.
    """

    rng: np.random.Generator
    draws: int
    values: dict[str, MetricValue] = field(default_factory=dict)
    items: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add_answers(self, reasoner: str, answers: Answered, *, asked: set[str]) -> None:
        """Add the accuracies of a reasoner.

        Args:
            reasoner: name.
            answers: what it said.
            asked: question types that stand in the split. Where one of them could not be answered, averages over types
                would not be comparable with those of others and are left out.
        """
        found = accuracy.figures(answers)
        answered = {key.split(".")[0] for key in found}
        for metric in accuracy.declare(reasoner):
            key = metric.name.removeprefix(f"{reasoner}.")
            averaged = key.split(".")[0] in ("average", "mean_over_types")
            if key in found and not (averaged and asked - answered):
                self.add_items(metric.name, found[key])

    def add_items(self, key: str, items: Items) -> None:
        """Add a share of right items, in percent; nothing where there are none."""
        if not len(items.right):
            return
        low, high = cluster_bootstrap(items.right, items.scene, rng=self.rng, draws=self.draws, weights=items.weight)
        self.values[key] = MetricValue(
            value=100 * items.share(),
            n=len(items.right),
            low=None if low is None else 100 * low,
            high=None if high is None else 100 * high,
            interval=INTERVAL,
        )
        # Per-question figures over all types can be put together from those of the types.
        if key.split(".")[1] not in ("average", "mean_over_types"):
            self._store(key, items.right, items.number, items.scene, items.weight)

    def add_videos(
        self, key: str, found: PerVideo, index: NDArray[np.int64], *, scale: float = 1.0, n: int | None = None
    ) -> None:
        """Add a weighted mean over videos (V,); nothing where nothing weighs anything."""
        kept = found.weight > 0
        if not kept.any():
            return
        value, weight, videos = found.value[kept], found.weight[kept], index[kept]
        low, high = cluster_bootstrap(value, videos, rng=self.rng, draws=self.draws, weights=weight)
        self.values[key] = MetricValue(
            value=scale * float(np.average(value, weights=weight)),
            n=len(value) if n is None else n,
            low=None if low is None else scale * low,
            high=None if high is None else scale * high,
            interval=INTERVAL,
        )
        self._store(key, (scale * value).astype(np.float32), videos, videos, weight.astype(np.float32))

    def complete(self, declared: Sequence[Metric]) -> dict[str, MetricValue]:
        """Values of all declared metrics, in their order."""
        return {metric.name: self.values.get(metric.name, NOTHING) for metric in declared}

    def _store(
        self,
        key: str,
        values: NDArray[Any],
        item: NDArray[np.int64],
        cluster: NDArray[np.int64],
        weight: NDArray[Any] | None,
    ) -> None:
        self.items[key] = values
        self.items[f"{key}@item"] = item.astype(np.int32)
        self.items[f"{key}@cluster"] = cluster.astype(np.int32)
        if weight is not None:
            self.items[f"{key}@weight"] = weight.astype(np.float32)
