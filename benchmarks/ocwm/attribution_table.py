"""The attribution checks of a section as tables and warnings."""

from __future__ import annotations

from collections.abc import Iterator

from ocwm.attribution import (
    Captured,
    bracket,
    captured,
    collapsed_runs,
    impossible_difference,
    seed_spread,
)
from ocwm.cells import Column
from ocwm.figures import decimals_of, figure
from ocwm.leakage import leakage_lines
from ocwm.markup import Block, Heading, Lines, grid
from ocwm.sections import Section
from ocwm.table_notes import unreached

_HEADROOM = (
    "0 % is the floor (best reference without privileged input), 100 % the ceiling (best reference with one). "
    "± is Student's 95 % interval over training seeds, floor and ceiling taken as exact. Where the intervals of floor and "
    "ceiling touch, or the ceiling is no better, a metric has no headroom: nothing can be concluded from it."
)
_SPREAD = (
    "Standard deviation over training seeds. References learn no world model, so theirs is the reasoner's alone; learned "
    "rows add the world model's. Pooled over rows; those that share a reasoner are not independent, so degrees of freedom "
    "are at most those given."
)
_CROSS = (
    "World-model and reasoner seeds move together in every learned row, so the two can't be told apart within a method: "
    "run with `--seed S seeds.reasoner=R` for several R to cross them."
)


def attribution_blocks(section: Section, *, level: int) -> list[Block]:
    """Return headroom, spread over seeds, warnings and the leakage audit."""
    reached = [column for column in section.columns if not unreached(section, column)]
    blocks: list[Block] = [Heading(level, "Attribution")]
    notes = [*_warnings(section), *leakage_lines(section.records)]
    if notes:
        blocks.append(Lines(tuple(notes)))
    blocks += _headroom(section, reached, level=level + 1)
    blocks += _spread(section, reached, level=level + 1)
    return blocks if len(blocks) > 1 else []


def _warnings(section: Section) -> Iterator[str]:
    several = sum(row.learned for row in section.rows) > 1
    for column in section.columns if several else ():
        if unreached(section, column) and (gap := impossible_difference(section, column)):
            shown = figure(gap, decimals=decimals_of([gap], column.unit))
            yield (
                f"**Warning:** learned rows differ by up to {shown} {column.unit} in {column.group} {column.words} at equal "
                "seeds, although none of its inputs depends on the world model: the reasoner's training, not the method."
            )
    for record, keys in collapsed_runs(section):
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        yield (
            f"Collapsed (†): {record.method}, model seed {record.seeds['model']}, record `{record.id}`, in "
            f"{', '.join(keys[:3])}{more}. It takes no part in verdicts there."
        )


def _headroom(section: Section, columns: list[Column], *, level: int) -> list[Block]:
    learned = [row for row in section.rows if row.learned]
    body = []
    for column in columns:
        found = bracket(section, column)
        if found is None or not any(column.key in row.cells for row in learned):
            continue
        decimals = decimals_of((found.low, found.high), column.unit)
        low, high = (figure(value, decimals=decimals) for value in (found.low, found.high))
        shares = []
        for row in learned:
            cell = row.cells.get(column.key)
            share = "–" if cell is None or not found.open else _share(captured(found, cell))
            shares.append(share + (" †" if cell is not None and cell.collapsed else ""))
        room = "yes" if found.open else "**none**"
        name = f"{column.group} {column.words} {column.arrow}"
        body.append([name, f"{low} ({found.floor})", f"{high} ({found.ceiling})", room, *shares])
    if not body:
        return []
    header = ["metric", "floor", "ceiling", "headroom", *(section.name_of(row) for row in learned)]
    return [
        Heading(level, "Headroom captured between floor and ceiling"),
        Lines((_HEADROOM,), points=False),
        grid(header, body, words=4),
    ]


def _share(found: Captured) -> str:
    if found.mean < 0:
        return "below the floor"
    text = f"{figure(100 * found.mean, decimals=0)} %"
    if found.low is not None and found.high is not None:
        text += f" ±{figure(50 * (found.high - found.low), decimals=0)}"
    return text


def _spread(section: Section, columns: list[Column], *, level: int) -> list[Block]:
    found = [(column, spread) for column in columns if (spread := seed_spread(section, column)) is not None]
    if not found:
        return []
    crossed = sorted({name for _, spread in found for name in spread.nested})
    body = []
    for column, spread in found:
        decimals = decimals_of([spread.references], column.unit) + 1
        learned = "–" if spread.learned is None else figure(spread.learned, decimals=decimals)
        line = [
            f"{column.group} {column.words}",
            f"{figure(spread.references, decimals=decimals)} ({spread.references_freedom} df)",
            learned,
        ]
        for name in crossed:
            parts = spread.nested.get(name)
            share = "–" if parts is None else "no spread" if parts.runs and parts.outer + parts.inner == 0 else ""
            if parts is not None and not share:
                share = (
                    f"{figure(100 * parts.outer_share, decimals=0)} % ({parts.outer_seeds} models, {parts.runs} runs)"
                )
            line.append(share)
        body.append(line)
    header = ["metric", "reasoner alone (references)", "learned rows"]
    header += [f"{name}: share of the world model's seed" for name in crossed]
    blocks: list[Block] = [
        Heading(level, "Spread of the reasoner and of the world model"),
        Lines((_SPREAD if crossed else f"{_SPREAD} {_CROSS}",), points=False),
        grid(header, body),
    ]
    return blocks
