"""Whether the two best rows of a table are separated, and what it would take where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ocwm.cells import MIN_SEEDS, Cell, Column
from ocwm.stats import SeedTest, agresti_caffo, episodes_to_separate, holm, seeds_to_separate, student_interval

LEVEL = 0.05


@dataclass(frozen=True)
class RateDifference:
    """Difference of two success rates of single checkpoints, in percent.

    Attributes:
        mean, low, high: difference and its 95 % interval (Agresti-Caffo, arms taken as independent).
        episodes: of each arm.
        needed: episodes of each arm that would separate the two checkpoints with 80 % power; None where nothing differs.
    """

    mean: float
    low: float
    high: float
    episodes: tuple[int, int]
    needed: int | None


@dataclass(frozen=True)
class Separation:
    """The comparison of the best learned row with the runner-up in one metric.

    Attributes:
        best, runner_up: names of the rows.
        test: Student's t on the paired differences of their common training seeds; None with fewer than three.
        common: number of common training seeds.
        separated: whether the Holm-corrected p over the section is at most 5 %.
        p_value: the corrected p; None without a test.
        alpha: level of a single comparison when all of the section are counted.
        rates: what two single checkpoints show, where the metric is a success rate and there is no test; never a verdict
            about methods.
    """

    best: str
    runner_up: str
    test: SeedTest | None
    common: int
    separated: bool = False
    p_value: float | None = None
    alpha: float = LEVEL
    rates: RateDifference | None = None

    @property
    def more_seeds(self) -> int | None:
        """How many more common seeds would separate the two at `alpha` with 80 % power; None where more than a hundred.

        Without a test it is what is lacking for one.
        """
        if self.test is None:
            return MIN_SEEDS - self.common
        needed = seeds_to_separate(self.test.mean, self.test.deviation, alpha=self.alpha)
        return None if needed is None else max(1, needed - self.common)


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
        rates = None if key in tests else _rates(first, other)
        found[key] = Separation(best, second, tests.get(key), len(common), rates=rates)
    for (key, test), p_value in zip(tests.items(), holm([test.p_value for test in tests.values()]), strict=True):
        # Differences without any spread over seeds are too few to be certain of; and on the common seeds alone
        # the order may be the other way round. Neither separates anything.
        separated = p_value <= LEVEL and test.low < test.high and better[key] * test.mean > 0
        found[key] = replace(found[key], separated=separated, p_value=p_value, alpha=LEVEL / len(tests))
    return found


def _rates(a: Cell, b: Cell) -> RateDifference | None:
    if a.hits is None or b.hits is None:
        return None
    low, high = agresti_caffo(a.hits, a.n, b.hits, b.n)
    needed = episodes_to_separate(a.hits / a.n, b.hits / b.n)
    return RateDifference(a.mean - b.mean, 100 * low, 100 * high, (a.n, b.n), needed)
