"""The short answer: for each section and headline metric the best learned row, what it has to beat, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocwm.attribution import bounds, bracket, captured
from ocwm.cells import Column
from ocwm.figures import decimals_of, figure
from ocwm.markup import Block, Lines, grid
from ocwm.sections import Row, Section
from ocwm.table_notes import interval_text, unreached
from ocwm.verdict_table import verdict


def short_answer(found: Sequence[Section]) -> list[Block]:
    """Return what the records at hand say in a few lines and one table; empty without learned rows."""
    lines = [(section, column) for section in found for column in section.headline if _best(section, column)]
    if not lines:
        return []
    body = [_line(section, column) for section, column in lines]
    header = ["section", "metric", "best learned", "floor", "ceiling", "headroom captured", "best against runner-up"]
    return [Lines(tuple(_sentences(lines))), grid(header, body, words=3)]


def _best(section: Section, column: Column) -> Row | None:
    sign = 1.0 if column.higher_is_better else -1.0
    rows = [row for row in section.rows if row.learned and column.key in row.cells]
    able = [row for row in rows if not row.cells[column.key].collapsed] or rows
    return max(able, key=lambda row: sign * row.cells[column.key].mean, default=None)


def _line(section: Section, column: Column) -> list[str]:
    row, found, ends = _best(section, column), bracket(section, column), bounds(section, column)
    assert row is not None
    cell = row.cells[column.key]
    decimals = decimals_of([cell.mean, *(end[1].mean for end in ends if end)], column.unit)
    best = f"{section.name_of(row)} {figure(cell.mean, decimals=decimals)}{interval_text(cell, decimals)}"
    best += " †" if cell.collapsed else ""
    shown = [f"{figure(end[1].mean, decimals=decimals)} ({end[0]})" if end else "absent" for end in ends]
    share = "–" if found is None else "no headroom"
    if found is not None and found.open:
        mean = captured(found, cell).mean
        share = "below the floor" if mean < 0 else f"{figure(100 * mean, decimals=0)} %"
    separation = section.separations.get(column.key)
    rivals = sum(other.learned and column.key in other.cells for other in section.rows) - 1
    alone = "the other rows collapsed" if rivals else "one learned row"
    alone = "all learned rows collapsed" if cell.collapsed else alone
    said = alone if separation is None else verdict(separation)
    if unreached(section, column):
        said = "no world-model effect possible"
    name = f"{column.group} {column.words} {column.arrow}"
    return [section.short_title, name, best, *shown, share, said]


def _sentences(lines: Sequence[tuple[Section, Column]]) -> Iterator[str]:
    count = len(lines)
    rooms = [(section, column, bracket(section, column)) for section, column in lines]
    ahead = none = 0
    for section, column, found in rooms:
        row = _best(section, column)
        assert row is not None
        if found is not None and not found.open:
            none += 1
        elif found is not None:
            ahead += captured(found, row.cells[column.key]).mean > 0
    parted = sum(
        (separation := section.separations.get(column.key)) is not None and separation.separated
        for section, column in lines
    )
    yield (
        f"In {ahead} of {count} headline figures the best learned row is ahead of every floor (on the mean; intervals stand "
        f"in the sections); in {none} floor and ceiling can't be told apart, so nothing follows from them."
    )
    yield (
        f"In {parted} of {count} the best learned row is separated from the runner-up."
        if parted
        else f"In none of the {count} is the best learned row separated from the runner-up: no method is shown to be better."
    )
