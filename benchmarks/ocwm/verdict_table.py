"""The verdicts of a section as a table: which comparison, how large, over how many seeds, separated or what it would take."""

from __future__ import annotations

from collections.abc import Sequence

from ocwm.cells import MIN_SEEDS, Column
from ocwm.figures import decimals_of, figure
from ocwm.markup import Block, Heading, Lines, grid
from ocwm.sections import Section
from ocwm.verdicts import Separation

_HOW = (
    "The best learned row against the runner-up, over the training seeds that both have: mean paired difference, its 95 % "
    "interval (Student's t, of this one comparison), and p after Holm's correction over all comparisons of the section. "
    "Separated means corrected p <= 0.05. Numbers of further seeds are rough (80 % power)."
)


def verdict_blocks(section: Section, *, level: int) -> list[Block]:
    """Return the verdicts; empty where no two learned rows can be compared."""
    found = [(c, section.separations[c.key]) for c in section.columns if c.key in section.separations]
    if not found:
        return []
    blocks: list[Block] = [Heading(level, "Verdicts")]
    shown = [(column, s) for column, s in found if s.test is not None or s.rates is not None]
    if lacking := [s for _, s in found if s.test is None]:
        blocks.append(Lines((_no_verdict(lacking),), points=False))
    if any(s.test for _, s in shown):
        blocks.append(Lines((_HOW,), points=False))
    if any(s.rates for _, s in shown):
        text = "Differences on episodes (Agresti-Caffo, 95 %) are about these checkpoints only and give no verdict."
        blocks.append(Lines((text,), points=False))
    if shown:
        header = ["metric", "best", "runner-up", "difference", "95 % interval", "over", "corrected p", "verdict"]
        blocks.append(grid(header, [_line(section, column, s) for column, s in shown], words=3))
    return blocks


def verdict(separation: Separation) -> str:
    """Say in a few words whether the two rows are separated, and otherwise what would separate them."""
    if separation.separated:
        return "**separated**"
    test, more = separation.test, separation.more_seeds
    if test is not None and test.low == test.high:
        return "not separated; no spread over seeds"
    seeds = "more than 100 seeds" if more is None else f"{more} more seed{'s' * (more > 1)}"
    if test is not None:
        return f"not separated; {seeds} would"
    rates = separation.rates
    if rates is not None and rates.low <= 0 <= rates.high and rates.needed is not None:
        episodes = max(1, rates.needed - min(rates.episodes))
        return f"not separated; {episodes:,} more episodes would part these checkpoints, a verdict needs {seeds}"
    return f"no verdict; it needs {seeds}"


def _line(section: Section, column: Column, separation: Separation) -> list[str]:
    means = [row.cells[column.key].mean for row in section.rows if row.learned and column.key in row.cells]
    decimals = decimals_of(means, column.unit) + 1
    found = separation.test or separation.rates
    assert found is not None
    low, mean, high = (figure(value, decimals=decimals) for value in (found.low, found.mean, found.high))
    if separation.test is not None:
        over, p_value = f"{separation.test.n} seeds", f"{separation.p_value:.2g}"
    else:
        assert separation.rates is not None
        over, p_value = f"{'/'.join(map(str, dict.fromkeys(separation.rates.episodes)))} episodes", "–"
    name = f"{column.group} {column.words} {column.arrow}"
    return [name, separation.best, separation.runner_up, mean, f"[{low}, {high}]", over, p_value, verdict(separation)]


def _no_verdict(lacking: Sequence[Separation]) -> str:
    counts = sorted({s.common for s in lacking})
    more = MIN_SEEDS - counts[0]
    now = "–".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
    return (
        f"No verdict in {len(lacking)} metric{'s' * (len(lacking) > 1)}: the best two learned rows have {now} training "
        f"seed{'s' * (now != '1')} in common, and a verdict needs {MIN_SEEDS} ({more} more)."
    )
