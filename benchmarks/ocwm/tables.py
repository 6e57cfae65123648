"""Tables of run records: a few narrow ones for each section, in Markdown, plain text or LaTeX, and as data.

Which metrics there are, in which order and what they mean comes from the records; the engine knows no task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ocwm.attribution_table import attribution_blocks
from ocwm.cells import Column
from ocwm.cost_table import cost_grid, machines
from ocwm.errors import BenchError, suggest
from ocwm.export import EXPORTS, export, is_separated
from ocwm.figures import decimals_of, figure
from ocwm.markup import FORMATS, Block, Heading, Lines, grid, render
from ocwm.published_tables import beside_blocks
from ocwm.sections import Row, Section, sections
from ocwm.store import Record
from ocwm.table_notes import interval_text, marked_name, section_facts, table_notes, unreached
from ocwm.verdict_table import verdict_blocks

ALL_FORMATS = (*FORMATS, *EXPORTS)
LEGEND = (
    "`±` and bold are about methods: the 95 % interval (Student's t) of the mean over training seeds. `[low, high]` is "
    "the 95 % interval over the items (videos, questions, episodes) of one checkpoint and says nothing about another."
)
_MAX_COLUMNS = 6


def render_tables(
    records: Sequence[Record], *, task: str | None = None, presets: Sequence[str] = (), form: str = "md"
) -> str:
    """Return the tables of all records, section by section.

    Args:
        records: as `store.read_records` gives them.
        task: only this task.
        presets: only these presets; empty means all.
        form: "md", "plain", "latex" (booktabs), "csv" (one line for each row and metric) or "json".

    Raises:
        BenchError: nothing to show, or an unknown format.
    """
    if form not in ALL_FORMATS:
        raise BenchError(f"no table format '{form}'", suggest(form, ALL_FORMATS))
    found = sections(chosen_records(records, task=task, presets=presets))
    if form in EXPORTS:
        return export(found, form)
    legend: list[Block] = [Lines((LEGEND,), points=False)]
    return render(legend + [block for section in found for block in section_blocks(section)], form)


def chosen_records(records: Sequence[Record], *, task: str | None, presets: Sequence[str]) -> list[Record]:
    """Return the records of a task and of some presets.

    Raises:
        BenchError: there are none.
    """
    chosen = [r for r in records if task in (None, r.task) and (not presets or r.preset in presets)]
    if not chosen:
        known = ", ".join(sorted({f"{r.task} {r.preset}" for r in records})) or "nothing"
        raise BenchError("no record to show", f"Recorded so far: {known}. Make one with bench run.")
    return chosen


def section_blocks(section: Section, *, level: int = 2) -> list[Block]:
    """Return the heading, facts and tables of a section."""
    blocks: list[Block] = [Heading(level, section.title), Lines(tuple(section_facts(section)))]
    about = {str(key): str(text) for key, text in section.sample.notes.get("about", {}).items()}
    for columns in _tables(section.columns):
        blocks += _metric_blocks(section, columns, about, level=level + 1)
        about.pop(columns[0].group, None)  # said once, above the first table of a group
    blocks += verdict_blocks(section, level=level + 1)
    blocks += attribution_blocks(section, level=level + 1)
    blocks += beside_blocks(section, level=level + 1)
    return [*blocks, Heading(level + 1, "Costs"), cost_grid(section), Lines((machines(section.records),))]


def _tables(columns: Sequence[Column]) -> Iterator[list[Column]]:
    """Pack the metrics of each group into tables of one unit and at most six columns, breaking between types."""
    packed: list[Column] = []
    for kind in dict.fromkeys(column.kind for column in columns):
        same = [column for column in columns if column.kind == kind]
        alike = packed and (packed[0].group, packed[0].unit) == (same[0].group, same[0].unit)
        if packed and (not alike or len(packed) + len(same) > _MAX_COLUMNS):
            yield packed
            packed = []
        packed += same
    if packed:
        yield packed


def _metric_blocks(section: Section, columns: list[Column], about: Mapping[str, str], *, level: int) -> list[Block]:
    group, kinds = columns[0].group, list(dict.fromkeys(column.kind for column in columns))
    types = ", ".join(kind.partition(".")[2].replace("_", " ") for kind in kinds)
    texts = [about[key] for key in dict.fromkeys((group, *kinds)) if key in about]
    texts += [f"In {columns[0].unit}."] if columns[0].unit else []
    rows = [row for row in section.rows if row.learned or any(column.key in row.cells for column in columns)]
    several = len(section.encoders) > 1
    start = ["model", "kind", *(["encoder"] if several else []), "training seeds"]
    header = [f"{column.words} {column.arrow}" + (" §" if unreached(section, column) else "") for column in columns]
    decimals = {
        column.key: decimals_of((row.cells[column.key].mean for row in rows if column.key in row.cells), column.unit)
        for column in columns
    }
    body = [
        [marked_name(row), _kind(row), *([row.encoder] if several else []), _seeds(row.seeds)]
        + [_text(section, row, column, decimals[column.key]) for column in columns]
        for row in rows
    ]
    notes = table_notes(section, rows, columns)
    blocks: list[Block] = [Heading(level, f"{group}: {types}" if types else group)]
    blocks += [Lines((" ".join(texts),), points=False)] if texts else []
    blocks += [grid([*start, *header], body, words=len(start))]
    return blocks + ([Lines(tuple(notes))] if notes else [])


def _kind(row: Row) -> str:
    return "learned" if row.learned else f"reference, reads {row.privileged}" if row.privileged else "reference"


def _seeds(count: int) -> str:
    return {1: "1, items only", 2: "2, no interval"}.get(count, str(count))


def _text(section: Section, row: Row, column: Column, decimals: int) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return "–"
    text = f"{figure(cell.mean, decimals=decimals)}{interval_text(cell, decimals)}"
    if len(cell.by_seed) < row.seeds:
        text += f" ({len(cell.by_seed)} of {row.seeds})"
    if is_separated(section, row, column):
        text = f"**{text}**"
    return text + (" †" if cell.collapsed else "")
