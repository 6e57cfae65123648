"""The figures of a table: a metric over the training seeds of a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

from ocwm.stats import student_interval
from ocwm.store import Record

MIN_SEEDS = 3
RATE = "Wilson"  # the interval that tasks give plain shares of independent items

TrainingSeed = tuple[int, int]


@dataclass(frozen=True)
class Column:
    """A metric of a table: its key `group.type.unit`, its unit, its direction."""

    key: str
    unit: str
    higher_is_better: bool

    @cached_property
    def group(self) -> str:
        """What measures: the key's first part."""
        return self.key.partition(".")[0]

    @cached_property
    def kind(self) -> str:
        """Group and type: the key's first two parts."""
        return ".".join(self.key.split(".")[:2])

    @cached_property
    def words(self) -> str:
        """The key without its group, as words."""
        return self.key.partition(".")[2].replace(".", " ").replace("_", " ") or self.key

    @property
    def arrow(self) -> str:
        """Which direction is better."""
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True)
class Cell:
    """One figure of a row.

    Attributes:
        mean: over training seeds, in the metric's unit.
        by_seed: the figure of each training seed, see `training_seed`.
        low, high: 95 % interval, None where none can be given.
        source: "seeds" (Student's t of the mean), "items" (of one run: these checkpoints only) or "".
        collapsed: number of runs that stand at the metric's floor.
        n: items of a run; the least of them where runs differ.
        hits: successes of the only run, where the figure is a plain share of its items; None elsewhere.
    """

    mean: float
    by_seed: Mapping[TrainingSeed, float]
    low: float | None
    high: float | None
    source: str
    collapsed: int
    n: int = 0
    hits: int | None = None


def training_seed(record: Record) -> TrainingSeed:
    """Return what makes a run count as another one: the seeds of encoder and world model.

    Several reasoners on one world model are no further world models: their figures are averaged. A reference has no world
    model, so there the reasoner's seed takes that place.
    """
    return record.seeds["encoder"], record.seeds["model" if record.kind == "method" else "reasoner"]


def cells(records: Sequence[Record]) -> dict[str, Cell]:
    """Return the figure of every metric over the runs of one row (they differ by training and evaluation seeds)."""
    found = sorted(((training_seed(record), record.metrics) for record in records), key=itemgetter(0))
    collapsed = Counter(key for record in records for key in record.collapsed)
    result = {}
    for key in dict.fromkeys(key for _, metrics in found for key in metrics):
        having = [(seed, metrics[key]) for seed, metrics in found if key in metrics]
        having = [(seed, metric) for seed, metric in having if metric["value"] is not None]
        if having:
            result[key] = _cell(having, collapsed[key])
    return result


def _cell(having: Sequence[tuple[TrainingSeed, Mapping[str, Any]]], collapsed: int) -> Cell:
    """Return the figure of one metric, of which `having` holds what each run says, sorted by training seed."""
    by_seed = {seed: metric["value"] for seed, metric in having}
    if len(by_seed) < len(having):  # reasoners and evaluation seeds of one world model are averaged first
        values: dict[TrainingSeed, list[float]] = {}
        for seed, metric in having:
            values.setdefault(seed, []).append(metric["value"])
        by_seed = {seed: sum(same) / len(same) for seed, same in values.items()}
    figures = list(by_seed.values())
    mean = sum(figures) / len(figures)
    spread = max(figures) - min(figures)
    first = having[0][1]
    low = high = None
    source = ""
    if len(figures) >= MIN_SEEDS and spread > 0:
        interval = student_interval(figures)
        low, high, source = interval.low, interval.high, "seeds"
    elif first["low"] is not None and all(metric["value"] == first["value"] for _, metric in having):
        # One seed, or a figure that no seed changes: what is left is the uncertainty of the items.
        low, high, source = first["low"], first["high"], "items"
    hits = None
    if len(having) == 1 and first["interval"] == RATE and first["unit"] == "%":
        hits = round(first["value"] * first["n"] / 100)
    return Cell(mean, by_seed, low, high, source, collapsed, min([int(metric["n"]) for _, metric in having]), hits)
