"""What of a figure can be the world model's doing: headroom, the reasoner's own spread, differences that can't be.

A question-answering score depends on the encoder, the world model, the reasoner and the question types that see imagined
frames at all. These checks say how much room the world model had, and how far scores move without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocwm.cells import MIN_SEEDS, Cell, Column
from ocwm.sections import Row, Section
from ocwm.stats import NestedVariance, nested_variance, student_interval
from ocwm.store import Record

_SAME = 1e-9  # figures that are equal but for the order of additions


@dataclass(frozen=True)
class Bracket:
    """Floor and ceiling of a metric: the best references without and with privileged input.

    Attributes:
        floor, ceiling: names of the references.
        low, high: their figures; which of the two is larger depends on the metric.
        open: whether the ceiling is better than the floor and their 95 % intervals don't touch.
    """

    floor: str
    ceiling: str
    low: float
    high: float
    open: bool


@dataclass(frozen=True)
class Captured:
    """Share of the way from floor to ceiling that a row goes: mean over training seeds, and its 95 % interval."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviations over training seeds in one metric.

    Attributes:
        references: pooled over references: they learn no world model, so this is the reasoner alone.
        references_freedom: degrees of freedom of that.
        learned: pooled over learned rows: world model and reasoner; None with one seed.
        nested: components of variance by row name, where world-model seeds have several reasoner seeds each.
    """

    references: float
    references_freedom: int
    learned: float | None
    nested: dict[str, NestedVariance]


def bounds(section: Section, column: Column) -> tuple[tuple[str, Cell] | None, tuple[str, Cell] | None]:
    """Return the best reference without privileged input and the best with one, None where there is none."""
    sign = 1.0 if column.higher_is_better else -1.0
    ends: list[tuple[str, Cell] | None] = []
    for privileged in (False, True):
        known = [
            (section.name_of(row), row.cells[column.key])
            for row in section.rows
            if not row.learned and bool(row.privileged) == privileged and column.key in row.cells
        ]
        ends.append(max(known, key=lambda found: sign * found[1].mean, default=None))
    return ends[0], ends[1]


def bracket(section: Section, column: Column) -> Bracket | None:
    """Return floor and ceiling of a metric; None where either is missing."""
    floor, ceiling = bounds(section, column)
    if floor is None or ceiling is None:
        return None
    sign = 1.0 if column.higher_is_better else -1.0
    low, high = floor[1], ceiling[1]
    is_open = sign * (high.mean - low.mean) > 0 and _apart(low, high)
    return Bracket(floor[0], ceiling[0], low.mean, high.mean, is_open)


def captured(found: Bracket, cell: Cell) -> Captured:
    """Return the share of an open bracket that a cell's figures capture; the bracket is taken as exact."""
    shares = [(value - found.low) / (found.high - found.low) for value in cell.by_seed.values()]
    if len(shares) >= MIN_SEEDS:
        test = student_interval(shares)
        return Captured(test.mean, test.low, test.high)
    return Captured(sum(shares) / len(shares), None, None)


def seed_spread(section: Section, column: Column) -> SeedSpread | None:
    """Return the spreads over seeds of a metric; None where no reference moves with the reasoner's seed."""
    references = _pooled([row for row in section.rows if not row.learned], column)
    if references is None or references[0] <= _SAME:
        return None
    learned = [row for row in section.rows if row.learned]
    found = _pooled(learned, column)
    nested = {}
    for row in learned:
        groups: dict[tuple[int, int], dict[int, float]] = {}
        for record in row.records:
            value = record.metrics.get(column.key, {}).get("value")
            if value is not None:
                seeds = record.seeds
                groups.setdefault((seeds["encoder"], seeds["model"]), {})[seeds["reasoner"]] = value
        if len(groups) >= 2 and max(map(len, groups.values())) >= 2:
            nested[section.name_of(row)] = nested_variance([list(group.values()) for group in groups.values()])
    return SeedSpread(references[0], references[1], None if found is None else found[0], nested)


def impossible_difference(section: Section, column: Column) -> float:
    """Return how far learned rows lie apart in a metric that no imagined frame reaches, encoder and seeds being equal.

    Whatever this is, a world model did not cause it: 0 is the only figure that needs no explanation.
    """
    groups: dict[tuple[str, int, int], list[float]] = {}
    for record in _learned(section):
        value = record.metrics.get(column.key, {}).get("value")
        if value is not None:
            groups.setdefault((record.encoder, record.seeds["encoder"], record.seeds["reasoner"]), []).append(value)
    largest = max((max(values) - min(values) for values in groups.values()), default=0.0)
    return largest if largest > _SAME else 0.0


def collapsed_runs(section: Section) -> list[tuple[Record, list[str]]]:
    """Return the runs that stand at the floor somewhere, with the metrics."""
    return [(record, list(record.collapsed)) for record in section.records if record.collapsed]


def _learned(section: Section) -> list[Record]:
    return [record for row in section.rows if row.learned for record in row.records]


def _apart(a: Cell, b: Cell) -> bool:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True
    return a.high < b.low or b.high < a.low


def _pooled(rows: Sequence[Row], column: Column) -> tuple[float, int] | None:
    """Return the standard deviation over training seeds, pooled over rows, with its degrees of freedom."""
    squares, freedom = 0.0, 0
    for row in rows:
        cell = row.cells.get(column.key)
        if cell is not None and len(cell.by_seed) >= 2:
            values = np.array(list(cell.by_seed.values()))
            squares += float(((values - values.mean()) ** 2).sum())
            freedom += values.size - 1
    return (math.sqrt(squares / freedom), freedom) if freedom else None
