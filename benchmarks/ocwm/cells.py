"""The figures of a table: a metric over the training seeds of a row, and whether the two best rows are separated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ocwm.stats import SeedTest, holm, seeds_to_separate, student_interval
from ocwm.store import Record

MIN_SEEDS = 3

TrainingSeeds = tuple[int, int, int]


@dataclass(frozen=True)
class Column:
    """A metric of a table: its key `group.type.unit`, its unit, its direction."""

    key: str
    unit: str
    higher_is_better: bool

    @property
    def group(self) -> str:
        """What measures: the key's first part."""
        return self.key.partition(".")[0]

    @property
    def kind(self) -> str:
        """Group and type: the key's first two parts."""
        return ".".join(self.key.split(".")[:2])

    @property
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
        by_seed: the figure of each training seed (encoder, model, reasoner).
        low, high: 95 % interval, None where none can be given.
        source: "seeds" (Student's t of the mean), "items" (of one run: these checkpoints only) or "".
        collapsed: number of runs that stand at the metric's floor.
    """

    mean: float
    by_seed: Mapping[TrainingSeeds, float]
    low: float | None
    high: float | None
    source: str
    collapsed: int


@dataclass(frozen=True)
class Separation:
    """The comparison of the best learned row with the runner-up in one metric.

    Attributes:
        best, runner_up: names of the rows.
        test: Student's t on the paired differences of their common training seeds; None with fewer than three.
        common: number of common training seeds.
        separated: whether the Holm-corrected p over the section is at most 5 %.
        alpha: level of a single comparison when all of the section are counted.
    """

    best: str
    runner_up: str
    test: SeedTest | None
    common: int
    separated: bool = False
    alpha: float = 0.05

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would separate the two at `alpha` with 80 % power; None where more than a hundred."""
        assert self.test is not None
        return seeds_to_separate(self.test.mean, self.test.deviation, alpha=self.alpha)


def training_seeds(record: Record) -> TrainingSeeds:
    """Return the seeds that make another checkpoint: encoder, model, reasoner."""
    return record.seeds["encoder"], record.seeds["model"], record.seeds["reasoner"]


def cells(records: Sequence[Record]) -> dict[str, Cell]:
    """Return the figure of every metric over the runs of one row (they differ by training and evaluation seeds)."""
    measured = (key for record in records for key, metric in record.metrics.items() if metric["value"] is not None)
    return {key: _cell(key, records) for key in dict.fromkeys(measured)}


def _cell(key: str, records: Sequence[Record]) -> Cell:
    having = [record for record in records if record.metrics.get(key, {}).get("value") is not None]
    values: dict[TrainingSeeds, list[float]] = {}
    for record in having:  # evaluation seeds of one checkpoint are averaged first
        values.setdefault(training_seeds(record), []).append(record.metrics[key]["value"])
    by_seed = {seeds: sum(same) / len(same) for seeds, same in sorted(values.items())}
    mean = sum(by_seed.values()) / len(by_seed)
    spread = max(by_seed.values()) - min(by_seed.values())
    low = high = None
    source = ""
    if len(by_seed) >= MIN_SEEDS and spread > 0:
        interval = student_interval(list(by_seed.values()))
        low, high, source = interval.low, interval.high, "seeds"
    elif spread == 0 and (first := having[0].metrics[key])["low"] is not None:
        # One seed, or a figure that no seed changes: what is left is the uncertainty of the items.
        low, high, source = first["low"], first["high"], "items"
    return Cell(mean, by_seed, low, high, source, sum(key in record.collapsed for record in having))


def separations(rows: Mapping[str, Mapping[str, Cell]], columns: Sequence[Column]) -> dict[str, Separation]:
    """Compare the best learned row with the runner-up in every metric; Holm over all of these comparisons.

    Args:
        rows: name -> cells of the learned rows of a section; figures at their floor don't take part.
        columns: the metrics to compare in.
    """
    found: dict[str, Separation] = {}
    tests: dict[str, SeedTest] = {}
    better = {column.key: 1.0 if column.higher_is_better else -1.0 for column in columns}
    for key, sign in better.items():
        able = [(name, cell) for name, cells in rows.items() if (cell := cells.get(key)) and not cell.collapsed]
        if len(able) < 2:
            continue
        (best, first), (second, other), *_ = sorted(able, key=lambda row: -sign * row[1].mean)
        common = sorted(first.by_seed.keys() & other.by_seed.keys())
        if len(common) >= MIN_SEEDS:
            tests[key] = student_interval([first.by_seed[seeds] - other.by_seed[seeds] for seeds in common])
        found[key] = Separation(best, second, tests.get(key), len(common))
    for (key, test), p_value in zip(tests.items(), holm([test.p_value for test in tests.values()]), strict=True):
        # Differences without any spread over seeds are too few to be certain of; and on the common seeds alone
        # the order may be the other way round. Neither separates anything.
        separated = p_value <= 0.05 and test.low < test.high and better[key] * test.mean > 0
        found[key] = replace(found[key], separated=separated, alpha=0.05 / len(tests))
    return found
