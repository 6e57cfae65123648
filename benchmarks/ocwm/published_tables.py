"""Published figures as tables: their own ones, and in columns of their own beside measured rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ocwm.cells import Column
from ocwm.figures import decimals_of, figure
from ocwm.markup import Block, Heading, Lines, grid
from ocwm.published import PublishedFigure, PublishedRow, PublishedTable, PublishedTask, published
from ocwm.sections import Row, Section

_CONDITIONS = (("setting", "setting"), ("encoder", "encoder"), ("split", "split"), ("protocol", "protocol"))


def published_blocks(task: str, *, level: int = 2) -> list[Block]:
    """Return the published tables of a task with their sources and caveats; empty where none are bundled.

    Raises:
        BenchError: a bundled file is malformed.
    """
    found = published(task)
    blocks: list[Block] = [Lines(found.caveats)] if found.caveats else []
    for table in found.tables:
        blocks += _blocks(table, level)
    return blocks


def beside_blocks(section: Section, *, level: int) -> list[Block]:
    """Return the measured rows of a section with published figures of the same methods in columns beside them."""
    known = published(section.sample.task)
    rows = _distinct(known)
    keys = [column for key in known.beside for column in section.columns if column.key == key]
    pairs = [
        (row, entry)
        for row in section.rows
        for entry in rows
        if entry.same_method(row.records[0]) and any(column.key in entry.figures for column in keys)
    ]
    if not pairs:
        return []
    columns = [c for c in keys if any(c.key in entry.figures for _, entry in pairs)]
    header = ["model", "published as", "encoder there"]
    header += [f"{c.words}: {what}" for c in columns for what in ("here", "published")]
    body = [[row.label, _name(entry), entry.encoder or "–", *_cells(row, entry, columns)] for row, entry in pairs]
    return [
        Heading(level, "Beside published figures"),
        grid(header, body, words=3),
        Lines(tuple(_reasons(pairs))),
    ]


def _distinct(known: PublishedTask) -> list[PublishedRow]:
    """Return the rows of all tables; one that a source repeats in another table only once."""
    found: dict[tuple[object, ...], PublishedRow] = {}
    for entry in (entry for table in known.tables for entry in table.rows):
        figures = tuple(sorted((key, shown.value) for key, shown in entry.figures.items()))
        found.setdefault((entry.source, entry.method, entry.encoder, figures), entry)
    return list(found.values())


def _cells(row: Row, entry: PublishedRow, columns: Sequence[Column]) -> Iterable[str]:
    for column in columns:
        cell = row.cells.get(column.key)
        there = entry.figures.get(column.key)
        yield "–" if cell is None else figure(cell.mean, decimals=decimals_of([cell.mean], column.unit))
        yield "–" if there is None else _text(there, 2)


def _reasons(pairs: Sequence[tuple[Row, PublishedRow]]) -> Iterable[str]:
    """Yield why rows can't be compared, once for all of them with the same reasons."""
    told: dict[str, list[str]] = {}
    for row, entry in pairs:
        reasons = entry.not_comparable(row.records[0])
        text = f"not comparable because of {', '.join(reasons)}" if reasons else "comparable"
        seeds = "" if entry.seeds is None else f"; {entry.seeds} training seed{'s' * (entry.seeds > 1)} there"
        told.setdefault(f"{text} (source: {entry.source}{seeds}).", []).append(row.label)
    for text, labels in told.items():
        yield f"{', '.join(dict.fromkeys(labels))}: {text}"


def _blocks(table: PublishedTable, level: int) -> list[Block]:
    number = f", table {table.number}" if table.number else ""
    unit = f" In {table.unit}." if table.unit else ""
    heads = [Column(key, table.unit, True) for key in table.metrics]
    group = {head.group for head in heads}
    # What is the same in all rows is said once, above them.
    varying = [(key, word) for key, word in _CONDITIONS if len({getattr(row, key) for row in table.rows}) > 1]
    fixed = [
        f"{word} {value}"
        for key, word in _CONDITIONS
        if (value := getattr(table.rows[0], key)) and key not in dict(varying)
    ]
    seeds = {row.seeds for row in table.rows}
    if len(seeds) == 1 and (count := seeds.pop()) is not None:
        fixed.append(f"{count} training seed{'s' * (count > 1)}")
    episodes = {row.episodes for row in table.rows}
    if len(episodes) == 1 and (count := episodes.pop()) is not None:
        fixed.append(f"{count} episodes a row, [95 % interval computed here]")
    header = ["model", *(word for _, word in varying), *(h.words if len(group) == 1 else h.key for h in heads)]
    decimals = {
        key: max((_decimals(row.figures[key].value) for row in table.rows if key in row.figures), default=0)
        for key in table.metrics
    }
    body = [
        [row.label, *(getattr(row, key) or "–" for key, _ in varying)]
        + [_text(row.figures[key], decimals[key]) if key in row.figures else "–" for key in table.metrics]
        for row in table.rows
    ]
    said = f" {'; '.join(fixed)}." if fixed else ""
    blocks: list[Block] = [
        Heading(level, table.title),
        Lines((f"Source: {table.source}{number}.{unit}{said[:2].upper()}{said[2:]}",), points=False),
        grid(header, body, words=1 + len(varying)),
    ]
    return [*blocks, Lines(table.notes)] if table.notes else blocks


def _name(entry: PublishedRow) -> str:
    return f"{entry.label}, {entry.setting}" if entry.setting else entry.label


def _text(found: PublishedFigure, decimals: int) -> str:
    text = figure(found.value, decimals=min(decimals, max(1, _decimals(found.value))) if decimals else 0)
    if found.spread is not None:
        text += f" ± {found.spread:g}"
    if (interval := found.interval) is not None:
        text += f" [{figure(interval[0], decimals=1)}, {figure(interval[1], decimals=1)}]"
    return text


def _decimals(value: float) -> int:
    return len(f"{value:g}".partition(".")[2])
